"""The page: one file, a strict policy, everything escaped, small, and the same every time."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from alignment_extraction.report import page as module
from alignment_extraction.report.page import write_page
from alignment_extraction.report.tables import Results
from alignment_extraction.report.verdict import verdict
from tests.report_study import HOSTILE, PROVENANCE, SETTINGS, conform, results

VENDOR = Path(module.__file__).parent / "vendor"


def build(study: Results, output: Path, *, masked: bool = False) -> str:
    write_page(verdict(study, SETTINGS), PROVENANCE, output, masked=masked)
    return output.read_text()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build(results(), tmp_path_factory.mktemp("page") / "report.html")


def without_scripts(text: str) -> str:
    return re.sub(
        r"<script.*?</script>|<style.*?</style>|data-csv=\"[^\"]*\"", "", text, flags=re.DOTALL
    )


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(text)
    return parser.found


def test_the_policy_allows_this_script_and_style_alone(text: str) -> None:
    found = tags(text)
    (policy,) = [a["content"] for t, a in found if t == "meta" and a.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        inner = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert inner is not None
        digest = base64.b64encode(hashlib.sha256(inner[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    for tag, attributes in found:
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
        assert tag not in ("iframe", "object", "embed", "link", "base")
        source = (
            attributes.get("src") or attributes.get("href") or attributes.get("xlink:href") or "#"
        )
        assert source.startswith(("#", "data:")) or source == "rows.parquet"


def test_hostile_texts_are_escaped(text: str) -> None:
    assert "<img" not in text
    assert HOSTILE not in text
    assert "&lt;/script&gt;&lt;img src=x" in text
    assert "\u202e" not in text
    assert len([tag for tag, a in tags(text) if tag == "script" and not a.get("type")]) == 1


def test_where_rows_are_not_known_none_are_counted(text: str, tmp_path: Path) -> None:
    page = build(results(rows=None), tmp_path / "report.html")
    assert "were held against the rows of the corpus: near by meaning" in page
    assert re.search(r"were held against [1-9][\d,]* rows: near by meaning", text)


def test_its_first_screen(text: str) -> None:
    start = text[text.index("<main>") : text.index('id="rows"')]
    for part in ("Leaks", "Of 1,300 training rows", "What this does not say", "figure-overview"):
        assert part in start
    assert start.count("<dt>") == 4
    assert "<b>exceeded</b>" in start


def test_size_figures_and_questions(text: str) -> None:
    assert len(text.encode()) <= 4_000_000
    figures = re.findall(r'<figure id="figure-([a-z]+)"', text)
    assert len(figures) == len(set(figures)) == 8
    assert re.findall(r"<h2 id=.*?>(.*?)</h2>", text) == [
        "Which rows?",
        "How sure is that?",
        "What kind of copying?",
        "What makes it worse?",
        "How does it grow?",
        "Did training memorise?",
        "Is the extracted data worth the original?",
        "How were data and search?",
        "Provenance",
    ]


def test_letters_of_figures_are_at_least_11_pixels_high(text: str) -> None:
    svgs = re.findall(r"<svg.*?</svg>", without_scripts(text), re.DOTALL)
    assert len(svgs) == 16
    for svg in svgs:
        sizes = [float(size) for size in re.findall(r'font-size="([\d.]+)', svg)]
        assert sizes
        assert min(sizes) >= 11
        assert "style=" not in svg
    ids = re.findall(r' id="([^"]+)"', "".join(svgs))
    assert len(ids) == len(set(ids))


def test_the_same_inputs_give_the_same_bytes(text: str, tmp_path: Path) -> None:
    assert build(results(), tmp_path / "again.html") == text


def test_the_parquet_beside_it_is_linked(text: str) -> None:
    (link,) = [a["href"] for t, a in tags(text) if a.get("id") == "parquet"]
    assert link == "rows.parquet"


def test_a_citation_names_number_interval_study_and_revision(text: str) -> None:
    cited = text[text.index('id="citation"') :]
    cited = cited[: cited.index("</p>")].replace("\u00a0", " ")
    revision = f"alignment-extraction, git revision {PROVENANCE['git revision']}."
    for part in (
        "210 (165 to 255)",
        "(95 % intervals)",
        "invented",
        "10,000 generations",
        revision,
    ):
        assert part in cited


def test_a_masked_page_has_no_text_of_the_corpus(tmp_path: Path) -> None:
    study = results()
    masked = build(study, tmp_path / "masked.html", masked=True)
    assert "masked" in masked
    for word in ("crates", "onerror", "riverside", "The answer is", "template 12"):
        assert word not in without_scripts(masked)
    assert 'rows.parquet"' not in masked


def test_leaked_personal_data_is_counted_and_not_shown_masked(tmp_path: Path) -> None:
    study = results()
    secret = pl.when(pl.col("verbatim_hits") > 100).then(pl.lit("mail ada@example.org"))
    table = study["rows"].with_columns(answer=secret.otherwise(pl.col("answer")))
    masked = build(
        Results({"rows": table, "risk": study["risk"]}), tmp_path / "m.html", masked=True
    )
    assert re.search(r"E-mail address: [1-9]", masked)
    assert "ada@" not in masked


@pytest.mark.parametrize("kept", [(), ("rows", "risk"), ("edits", "shift", "tails")])
def test_pages_of_few_tables(kept: tuple[str, ...], tmp_path: Path) -> None:
    study = results()
    some = Results({name: study[name] for name in kept})
    text = build(some, tmp_path / "report.html")
    assert "How were data and search?" in text
    assert not re.search(r"nan", without_scripts(text))


def test_a_change_of_likelihood_of_one_pair_has_no_interval(tmp_path: Path) -> None:
    study, ends = results(), [pl.lit(None).alias(name) for name in ("low", "high", "detectable")]
    shift = conform("shift", study["shift"].with_columns(ends))
    few = Results({"attribution": study["attribution"], "shift": shift})
    assert "none seen, " in build(few, tmp_path / "page.html")


def test_every_answer_is_a_sentence(text: str) -> None:
    answers = re.findall(r"</h2>\s*<p>(.*?)</p>", without_scripts(text), re.DOTALL)
    assert len(answers) == 9
    for answer in answers:
        assert answer.strip().endswith(".")
        assert not re.search(r"nan|None|\s[.,;]|\(\s", answer)


def test_vendored_files_are_those_of_the_readme() -> None:
    readme = (VENDOR / "README.md").read_text()
    for path in [*VENDOR.glob("*.js"), *VENDOR.glob("*.css")]:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert re.search(rf"`{re.escape(path.name)}`.*`{digest}`", readme)
