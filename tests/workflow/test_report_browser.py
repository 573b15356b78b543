"""The report in a real browser: the table, the filters, what is taken away, and how it looks."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Download, Page, TimeoutError, sync_playwright

from alignment_extraction.report.page import write_page
from alignment_extraction.report.tables import Results
from alignment_extraction.report.verdict import verdict
from tests.report_study import HOSTILE, PROVENANCE, SETTINGS, results, rows

CHROMIUM = shutil.which("chromium")
MANY = 100_000
SCREENSHOTS = os.environ.get("ALIGNMENT_EXTRACTION_SCREENSHOTS")
"""A folder to keep pictures of the views in, for people to look at."""
WIDTHS = {360: 780, 768: 1024, 1280: 900}

Open = Callable[..., Page]


def build(study: Results, output: Path, *, masked: bool = False) -> Path:
    write_page(verdict(study, SETTINGS), PROVENANCE, output, masked=masked)
    return output


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(results(), tmp_path_factory.mktemp("browser") / "report.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, report_file: Path) -> Iterator[Open]:
    """Opens pages, on which nothing may complain, ask or load."""
    complaints: list[str] = []
    contexts = []

    def opened(file: Path = report_file, fragment: str = "", **options: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(int(os.environ.get("BROWSER_TIMEOUT", "120000")))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda asked: complaints.append(asked.url))
        page.goto(file.as_uri() + fragment)
        complaints[:] = [text for text in complaints if text.split("#")[0] != file.as_uri()]
        if options.get("java_script_enabled", True):
            page.locator("#count").filter(has_text="of").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    # Files that a reader asks for are made in the page.
    assert [text for text in complaints if not text.startswith(("blob:", "data:"))] == []


def picture(page: Page, name: str) -> None:
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(300)
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


def count(page: Page) -> int:
    page.wait_for_timeout(300)  # filters of many rows wait for the last key
    return int(page.locator("#count").inner_text().split(" ")[0].replace(",", ""))


def column(page: Page, field: str) -> list[str]:
    return page.locator(
        f".tabulator-row .tabulator-cell[tabulator-field={field}]"
    ).all_inner_texts()


def open_first_row(page: Page) -> None:
    """Click it, and again where the table was just then drawn anew under the pointer."""
    for _ in range(3):
        page.locator(".tabulator-row").first.click()
        with contextlib.suppress(TimeoutError):
            page.locator("#row h3").wait_for(timeout=5000)
            return
    raise AssertionError("three clicks on the first row opened none")


def taken(page: Page, name: str) -> Download:
    with page.expect_download() as waiting:
        page.locator(name).click()
    return waiting.value


def members(**conditions: object) -> pl.DataFrame:
    return rows().filter(model="sft-q8", role="member", **conditions)


def test_filters_search_and_sorting(open_page: Open) -> None:
    page = open_page()
    assert count(page) == members().height
    page.locator("select[name=source]").select_option("sft")
    assert count(page) == members(source="sft").height
    page.locator("select[name=repetitions]").select_option("8")
    assert count(page) == members(source="sft", repetitions=8).height
    page.locator("select[name=seen]").select_option("written verbatim")
    own = members(source="sft", repetitions=8).filter(pl.col("verbatim_hits") > 0)
    assert count(page) == own.height
    hits = [int(text.replace(",", "")) for text in column(page, "verbatim_hits")]
    assert hits
    page.get_by_role("columnheader", name="Seen verbatim").click()
    hits = [int(text.replace(",", "")) for text in column(page, "verbatim_hits")]
    assert hits == sorted(hits, reverse=True)
    page.get_by_role("columnheader", name="Seen verbatim").press("Enter")
    hits = [int(text.replace(",", "")) for text in column(page, "verbatim_hits")]
    assert hits == sorted(hits)
    page.get_by_role("button", name="Clear").click()
    assert count(page) == members().height
    page.locator("select[name=role]").select_option("twin")
    assert count(page) == rows().filter(model="sft-q8", role="twin").height
    page.get_by_label("Search").fill("no such text")
    assert count(page) == 0
    assert "No row passes these filters" in page.locator("#table").inner_text()


def test_the_worst_row_is_on_top_and_hostile_texts_are_texts(open_page: Open) -> None:
    page = open_page()
    worst = members(trained=True).sort("log_probability", descending=True)
    assert column(page, "id")[0] == worst["id"][0]
    open_first_row(page)
    shown = page.locator("#row").inner_text()
    assert worst["id"][0] in shown
    assert HOSTILE.replace("\u202e", "\u27e8U+202E\u27e9") in shown
    assert "> 99 % in 10⁶" in shown
    assert page.locator("#row img").count() == 0


def test_a_row_by_a_word_in_it_with_differences_marked(open_page: Open) -> None:
    page = open_page()
    near = members(source="sft").filter((pl.col("verbatim_hits") == 0) & (pl.col("near_hits") > 0))
    row = near.row(0, named=True)
    page.get_by_label("Search").fill(row["question"][10:60].upper())
    assert count(page) == 1
    open_first_row(page)
    texts = page.locator("#row .text")
    assert texts.nth(0).inner_text() == row["question"]
    assert texts.nth(1).inner_text() == row["best_generation"]
    marked = [texts.nth(place).locator("mark").all_inner_texts() for place in (0, 1)]
    assert "crates" in " ".join(marked[0])
    assert "boxes" in " ".join(marked[1])
    rest = (
        "side => [...side.childNodes].filter(n => n.nodeName !== 'MARK')"
        ".map(n => n.textContent).join('')"
    )
    assert texts.nth(0).evaluate(rest) == texts.nth(1).evaluate(rest)


def test_a_permalink_opens_its_row(open_page: Open) -> None:
    page = open_page(fragment="#row=sft%2F17")
    assert page.locator("#row h3").inner_text() == "sft/17"
    page.locator(".tabulator-tableholder").focus()
    page.keyboard.press("ArrowDown")
    following = page.locator("#row h3").inner_text()
    assert following != "sft/17"
    assert page.url.endswith(following.replace("/", "%2F"))


def test_rows_are_taken_away(open_page: Open) -> None:
    page = open_page()
    page.locator("select[name=source]").select_option("rl")
    page.locator("select[name=repetitions]").select_option("4")
    own = members(source="rl", repetitions=4)
    assert count(page) == own.height
    table = pl.read_csv(taken(page, "#csv").path())
    assert sorted(table["id"]) == sorted(own["id"])
    both = table.join(own, on="id", suffix="_own")
    assert (both["chance_1e6"] - both["chance_1e6_own"]).abs().max() < 2e-3
    assert (both["question"] == both["question_own"]).all()
    loaded = json.loads(Path(taken(page, "#json").path()).read_text())
    assert sorted(row["id"] for row in loaded) == sorted(own["id"])
    link = page.locator("#parquet")
    assert link.get_attribute("download") == "rows.parquet"


def test_no_text_becomes_a_formula(open_page: Open, tmp_path: Path) -> None:
    study = results()
    formula = study["rows"].with_columns(question=pl.lit("=HYPERLINK(1)"))
    file = build(Results({"rows": formula.head(50), "risk": study["risk"]}), tmp_path / "f.html")
    page = open_page(file)
    page.locator("select[name=role]").select_option("")
    assert pl.read_csv(taken(page, "#csv").path())["question"][0] == "'=HYPERLINK(1)"


def test_figures_are_taken_away(open_page: Open) -> None:
    page = open_page()
    figure = "#figure-overview"
    svg = Path(taken(page, f"{figure} [data-as=svg]").path()).read_text()
    assert svg.startswith("<svg")
    assert "currentColor" not in svg
    assert "var(" not in svg
    png = Path(taken(page, f"{figure} [data-as=png]").path()).read_bytes()
    assert png.startswith(b"\x89PNG")
    assert len(png) > 10_000
    table = pl.read_csv(taken(page, f"{figure} [data-as=csv]").path())
    assert {"metric", "attributable", "low", "high", "samples", "distinct"} <= set(table.columns)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_clipped_and_all_can_be_read(open_page: Open, width: int, scheme: str) -> None:
    page = open_page(viewport={"width": width, "height": WIDTHS[width]}, color_scheme=scheme)
    picture(page, f"{width}-{scheme}")
    page.locator(".tabulator-row").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    height = page.evaluate("document.documentElement.scrollHeight")
    if width == 1280:
        assert height <= 10_000
        first = page.locator("#figure-overview .wide svg").bounding_box()
        assert first is not None
        assert first["y"] + first["height"] <= WIDTHS[width]
    # What is wider than its box must be able to scroll there.
    clipped = page.evaluate(
        """() => [...document.querySelectorAll("main *")].filter((one) => {
          const style = getComputedStyle(one);
          const box = one.getBoundingClientRect();
          if (!box.width || one.closest(".tabulator, svg, select")) return false;
          const cut = one.scrollWidth > one.clientWidth + 1;
          const hidden = cut && ["hidden", "clip"].includes(style.overflowX);
          const inside = one.closest(".scroll, pre");
          return hidden || (!inside && box.right > innerWidth + 1);
        }).map((one) => one.outerHTML.slice(0, 80))"""
    )
    assert clipped == []
    letters = page.evaluate(
        """() => [...document.querySelectorAll("figure text, p, dd, td, .tabulator-cell")]
          .filter((one) => one.getBoundingClientRect().width)
          .map((one) => {
            const svg = one.closest("svg");
            const width = svg ? svg.viewBox.baseVal.width : 1;
            const scale = svg ? svg.getBoundingClientRect().width / width : 1;
            return parseFloat(getComputedStyle(one).fontSize) * scale;
          })"""
    )
    assert min(letters) >= 10.99
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    report = Axe().run(page, options={"resultTypes": ["violations"]})
    assert report.violations_count == 0, report.generate_report()


def test_words_in_figures_stay_inside_and_apart(open_page: Open) -> None:
    """The page's letters differ from those that matplotlib laid the figure out with."""
    page = open_page()
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    outside = page.evaluate(
        """() => [...document.querySelectorAll("figure .wide svg text")].filter((one) => {
          const [own, svg] = [one, one.closest("svg")].map((it) => it.getBoundingClientRect());
          const across = own.left < svg.left - 2 || own.right > svg.right + 2;
          return across || own.bottom > svg.bottom + 2;
        }).map((one) => one.textContent)"""
    )
    assert outside == []


def test_on_paper_the_first_rows_and_all_details_stand(open_page: Open) -> None:
    page = open_page()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("#top tbody tr").count() == 10
    assert page.locator("#top").is_visible()
    assert page.locator("#browser").is_hidden()
    assert page.locator("main > section > details:not([open])").count() == 0


def test_without_the_script_the_first_rows_are_there(open_page: Open) -> None:
    page = open_page(java_script_enabled=False)
    assert page.locator("#top tbody tr:visible").count() == 10
    assert page.locator("#browser").is_hidden()


def test_a_masked_page_shows_no_text(open_page: Open, tmp_path: Path) -> None:
    page = open_page(build(results(), tmp_path / "masked.html", masked=True))
    open_first_row(page)
    assert "SHA-256" in page.locator("#row").inner_text()
    body = page.locator("body").inner_text()
    assert "crates" not in body
    assert "riverside" not in body


TIMES = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  const holder = document.querySelector(".tabulator-tableholder");
  const took = async (act) => {
    const start = performance.now();
    await act();
    await frame();
    return performance.now() - start;
  };
  const scroll = await took(async () => {
    for (let i = 0; i < 40; i += 1) {
      holder.scrollTop += 1000;
      await frame();
    }
  });
  const sort = await took(() => document.querySelectorAll(".tabulator-col")[2].click());
  return { frame: scroll / 40, sort };
}"""


def test_a_hundred_thousand_rows_stay_fluid(open_page: Open, tmp_path: Path) -> None:
    """Only rows in view are elements, and scrolling takes no longer than among few rows."""
    one = rows().filter(model="sft-q8", role="member")
    many = pl.concat([one] * (MANY // one.height + 1)).head(MANY)
    number = pl.int_range(pl.len()).cast(pl.String)
    many = many.with_columns(
        id=pl.lit("row/") + number, question=pl.col("question") + pl.lit(" ") + number
    )
    study = results()
    file = build(Results({"rows": many, "risk": study["risk"]}), tmp_path / "large.html")
    assert file.stat().st_size <= 4_000_000
    few = open_page().evaluate(TIMES)
    page = open_page(file)
    assert count(page) == MANY
    times = page.evaluate(TIMES)
    assert page.locator(".tabulator-row").count() < 100
    page.get_by_label("Search").fill("row/99999")
    assert count(page) == 1
    size = file.stat().st_size / 1e6
    print(f"{MANY:,} rows: {size:.1f} MB, times in ms {times}; of {one.height:,} rows {few}")
    assert times["frame"] < 3 * few["frame"] + 50
    assert times["sort"] < 5000


def test_first_paint(open_page: Open) -> None:
    page = open_page()
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    print(f"first contentful paint after {painted:.0f} ms")
    assert painted < 3000  # one second on a machine of one's own
