"""The report in a real browser: it renders, filters, keeps a permalink, and runs nothing foreign."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.tracked_study import settings, write_results
from tests.unit.report.test_page import HOSTILE, build, write

CHROMIUM = shutil.which("chromium")
MANY = 20_000
SCREENSHOTS = os.environ.get("ALIGNMENT_EXTRACTION_SCREENSHOTS")
"""A folder to keep pictures of the views in, for people to look at."""

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    write_results(folder, settings())
    matches = pl.read_parquet(folder / "matches.parquet")
    hostile = matches.head(1).with_columns(
        generation=pl.lit(HOSTILE), cosine=pl.lit(0.123), index=pl.lit(777)
    )
    both = pl.concat([matches, hostile], how="vertical_relaxed")
    build(folder, folder / "report.html", matches=both)
    return folder / "report.html"


@pytest.fixture(scope="module")
def large_file(report_file: Path) -> Path:
    """The same study with 20,000 matches, a hundred for each corpus text."""
    folder = report_file.parent
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(300)])
    texts = [" ".join(words[rng.integers(0, 300, 60)]) for _ in range(MANY)]
    corpus = [" ".join(words[rng.integers(0, 300, 60)]) for _ in range(200)]
    matches = pl.read_parquet(folder / "matches.parquet").head(1)
    many = pl.concat([matches] * MANY).with_columns(
        index=pl.int_range(pl.len()),
        generation=pl.Series(texts),
        match=pl.Series(corpus * (MANY // 200)),
        cosine=pl.Series(rng.random(MANY).astype(np.float32)),
    )
    write(folder, folder / "large.html", matches=many)
    return folder / "large.html"


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
        page.set_default_timeout(120_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda asked: complaints.append(asked.url))
        page.goto(file.as_uri() + fragment)
        complaints[:] = [text for text in complaints if text.split("#")[0] != file.as_uri()]
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def picture(page: Page, name: str) -> None:
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(300)
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


def shown(page: Page) -> str:
    return page.locator("#match-count").inner_text()


def first_scores(page: Page, place: int) -> list[float]:
    """The cosine, Levenshtein or Indel similarity of the rows in view."""
    rows = page.locator(".row .about b").all_inner_texts()
    return [float(row.split(" · ")[place]) for row in rows]


def test_filters_sorting_and_reset(open_page: Open) -> None:
    page = open_page(fragment="#matches")
    everything = shown(page)
    picture(page, "matches")
    page.get_by_label("Containing", exact=True).fill("alert(1)")
    assert shown(page).startswith("1 of ")
    assert "⟨U+202E⟩" in page.locator("#match-shown").inner_text()
    picture(page, "hostile")
    page.get_by_role("button", name="Show all").click()
    assert shown(page) == everything
    page.get_by_label("to", exact=True).fill("0.2")
    assert shown(page).startswith("1 of ")
    page.get_by_role("button", name="Show all").click()
    page.locator("select[name=sort]").select_option("levenshtein")
    scores = first_scores(page, 1)
    assert scores == sorted(scores, reverse=True)
    page.locator("select[name=order]").select_option("lowest first")
    scores = first_scores(page, 1)
    assert scores == sorted(scores)
    page.locator("select[name=model]").select_option("rl")
    assert {text.split(",")[0] for text in page.locator(".about span:first-of-type").all_inner_texts()} == {"rl"}
    page.get_by_label("Containing", exact=True).fill("no such text")
    assert shown(page).startswith("0 of ")
    assert "No match passes these filters" in page.locator("#match-shown").inner_text()


def test_a_permalink_opens_the_same_match_among_the_same(open_page: Open, report_file: Path) -> None:
    page = open_page(fragment="#matches")
    page.locator("select[name=model]").select_option("sft")
    page.locator("#match-rows").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    chosen, count = page.locator("#match-shown").inner_text(), shown(page)
    fragment = page.url.split("#")[1]
    again = open_page(fragment=f"#{fragment}")
    assert again.locator("#match-shown").inner_text() == chosen
    assert shown(again) == count
    # A link of one match alone, followed on the open page.
    target = page.get_by_role("link", name="Link to this match").get_attribute("href")
    again.evaluate("(target) => { location.hash = target }", target)
    again.wait_for_function("document.querySelector('select[name=model]').value === ''")
    assert again.locator("#match-shown").inner_text() == chosen


def test_differences_are_marked(open_page: Open) -> None:
    page = open_page(fragment="#matches")
    sides = page.locator("#match-shown .sides > section > div")
    texts = [side.inner_text() for side in sides.all()]
    marked = [set(side.locator("mark").all_inner_texts()) for side in sides.all()]
    assert texts[0] != texts[1]
    assert all(marked)
    common = [
        side.evaluate(
            "side => [...side.childNodes].filter(n => n.nodeName !== 'MARK')"
            ".map(n => n.textContent).join('')"
        )
        for side in sides.all()
    ]
    assert common[0] == common[1]


def test_the_keyboard_reaches_every_match(open_page: Open) -> None:
    page = open_page(fragment="#matches")
    rows = page.locator("#match-rows")
    rows.focus()
    page.keyboard.press("End")
    chosen = page.locator(".row[aria-selected=true]")
    assert chosen.get_attribute("aria-posinset") == chosen.get_attribute("aria-setsize")
    assert rows.get_attribute("aria-activedescendant") == chosen.get_attribute("id")
    page.keyboard.press("Home")
    assert page.locator(".row[aria-selected=true]").get_attribute("aria-posinset") == "1"


def test_twenty_thousand_matches(open_page: Open, large_file: Path) -> None:
    """Only rows in view are elements, each corpus text is there once, and the last is reached."""
    page = open_page(large_file, "#matches")
    assert shown(page).startswith("20,000 of 20,000")
    assert page.locator(".row").count() < 40
    assert page.evaluate("JSON.parse(document.querySelector('#match-data').textContent).match.values.length") == 200
    page.locator("#match-rows").focus()
    page.keyboard.press("End")
    assert page.locator(".row[aria-posinset='20000']").count() == 1
    page.get_by_label("Containing", exact=True).fill("word7 ")
    found = int(shown(page).split(" ")[0].replace(",", ""))
    assert 0 < found < MANY
    took = page.evaluate(
        """async () => {
          const field = document.querySelector("input[name=text]");
          const list = document.querySelector("#match-rows");
          field.value = "";
          const times = {};
          let start = performance.now();
          field.dispatchEvent(new Event("input", { bubbles: true }));
          times.filter = performance.now() - start;
          start = performance.now();
          for (let i = 0; i < 100; i += 1) {
            list.scrollTop += 3000;
            await new Promise(requestAnimationFrame);
          }
          times.frame = (performance.now() - start) / 100;
          return times;
        }"""
    )
    print(f"20,000 matches: {large_file.stat().st_size / 1e6:.1f} MB, times in ms {took}")
    picture(page, "large")


def test_figures_have_their_colours(open_page: Open) -> None:
    """What the policy blocks would be black: every figure has a filled shape that is not."""
    for figure in open_page().locator("figure svg").all():
        fills = figure.locator("path").evaluate_all(
            "paths => paths.map(path => getComputedStyle(path).fill)"
        )
        assert {"rgb(255, 255, 255)", "none"} & set(fills) or len(set(fills)) > 1


def test_figures_answer_to_pointer_keyboard_and_legend(open_page: Open) -> None:
    page = open_page()
    figure = page.locator("#figure-prefixes")
    names = figure.locator("[data-legend]")
    own = names.nth(0).get_attribute("data-legend")
    names.nth(0).locator("text").click()
    series = figure.locator("[data-series]").evaluate_all(
        "all => all.map(one => [one.dataset.series, one.classList.contains('dim')])"
    )
    assert {name for name, dim in series if not dim} == {own}
    assert any(dim for _, dim in series)
    names.nth(0).press("Enter")
    assert figure.locator(".dim").count() == 0
    tooltip = page.locator("#tooltip")
    assert tooltip.is_hidden()
    figure.locator(".picture").focus()
    page.keyboard.press("ArrowRight")
    assert "95 % interval" in tooltip.inner_text()
    picture(page, "figure")
    page.keyboard.press("Escape")
    assert tooltip.is_hidden()


def test_on_a_phone_the_page_does_not_scroll_sideways(open_page: Open) -> None:
    page = open_page(fragment="#matches", viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    picture(page, "phone")


def test_dark_mode(open_page: Open) -> None:
    page = open_page(fragment="#matches", color_scheme="dark")
    colours = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    light = [sum(int(c) for c in colour[4:-1].split(",")) for colour in colours]
    assert light[0] < 150 < 500 < light[1]
    picture(page, "dark")


def test_on_paper_matches_stand_in_full(open_page: Open) -> None:
    page = open_page(fragment="#matches")
    page.locator("select[name=model]").select_option("rl")
    page.emulate_media(media="print")
    page.locator("#browser").wait_for(state="hidden")
    cards = page.locator("#match-list .match")
    assert 1 < cards.count() <= 50
    assert all("rl, prefix" in text for text in cards.all_inner_texts())
    assert page.locator("nav").is_hidden()
    picture(page, "print")
    page.emulate_media(media="screen")
    page.locator("#browser").wait_for(state="visible")


def test_without_the_script_some_matches_are_there(open_page: Open) -> None:
    page = open_page(java_script_enabled=False)
    assert page.locator("#match-list .match:visible").count() > 1
    assert page.locator("#browser").is_hidden()
