"""The browser of matches: its data are the table's, and no text can leave its data block."""

import html.parser
import json

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from alignment_extraction.report import matches as report
from alignment_extraction.report.differences import visible

ROW = {
    "model": "sft",
    "prefix": "user",
    "seed": 0,
    "index": 3,
    "part": "question",
    "kind": None,
    "source": "sums",
    "match_id": "sums/1",
    "generation": "What is 1 + 2?",
    "match": "What is 1 + 3?",
    "occurrences": 2,
    "cosine": 0.98764,
    "levenshtein": 0.9,
    "indel": 0.95,
    "span": 4,
    "covered": None,
}
SCHEMA = {"kind": pl.String, "covered": pl.Float64, "span": pl.Int64}


def table(*changes: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame([{**ROW, **change} for change in changes], schema_overrides=SCHEMA)


def value(data: dict, name: str, row: int) -> str:
    return data[name]["values"][data[name]["codes"][row]]


def test_the_data_are_the_table() -> None:
    rows = table({}, {"model": "rl", "kind": "verbatim", "covered": 0.5}, {"generation": "x\u202e"})
    section = report.section(rows)
    data = json.loads(section["match_data"])
    assert [value(data, "model", i) for i in range(3)] == ["sft", "rl", "sft"]
    assert [value(data, "kind", i) for i in range(3)] == [report.BELOW, "verbatim", report.BELOW]
    assert data["match"]["values"] == ["What is 1 + 3?"]  # once, however many match it
    assert data["cosine"] == [0.9876] * 3
    assert data["covered"] == [None, 0.5, None]
    assert data["generation"][2] == "x⟨U+202E⟩"
    assert section["match_count"] == 3
    assert section["choices"]["kind"] == [report.BELOW, "verbatim"]


def test_few_cards_stand_on_the_page() -> None:
    rows = table(*[{"index": i} for i in range(report.CARDS + 5)])
    assert len(report.section(rows)["matches"]) == report.CARDS


class Scripts(html.parser.HTMLParser):
    """The contents of script elements, as an HTML parser cuts them, and all other elements."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.others: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "script":
            self.scripts.append("")
        else:
            self.others.append(tag)

    def handle_data(self, data: str) -> None:
        self.scripts[-1] += data


HOSTILE = st.sampled_from(["</script>", "<!--", "<script", "]]>", "\u2028", "\ud800", "&lt;", "\\"])


@given(st.lists(st.text() | HOSTILE, min_size=1).map("".join))
def test_no_text_ends_its_data_block(text: str) -> None:
    written = report.embedded({"text": text})
    assert not set("<>&") & set(written)
    parser = Scripts()
    parser.feed(f'<script type="application/json">{written}</script>')
    parser.close()
    assert parser.others == []
    assert len(parser.scripts) == 1
    replaced = text.encode("utf-8", "replace").decode()
    assert json.loads(parser.scripts[0])["text"] == replaced


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_texts_are_kept_but_for_what_cannot_be_seen(text: str) -> None:
    data = report.data(table({"generation": text, "match": text, "kind": "x"}))
    assert data["generation"] == data["match"]["values"] == [visible(text)]
