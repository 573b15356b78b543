"""The report in a real browser: it renders, filters, keeps a permalink, and runs nothing foreign."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Page, sync_playwright

from tests.tracked_study import settings, write_results
from tests.unit.report.test_page import HOSTILE, build

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    write_results(folder, settings())
    matches = pl.read_parquet(folder / "matches.parquet")
    hostile = matches.head(1).with_columns(generation=pl.lit(HOSTILE), cosine=pl.lit(0.123))
    both = pl.concat([matches, hostile], how="vertical_relaxed")
    build(folder, folder / "report.html", matches=both)
    return folder / "report.html"


@pytest.fixture
def page(report_file: Path) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(report_file.as_uri())
        yield page
        browser.close()
    assert complaints == []


def test_filter_sort_and_permalink(page: Page, report_file: Path) -> None:
    cards = page.locator(".match")
    everything = cards.count()
    assert page.locator(".match:visible").count() == everything > 1
    page.get_by_label("Containing").fill("alert(1)")
    assert page.locator(".match:visible").count() == 1
    assert page.locator("#match-count").inner_text() == f"1 of {everything} shown"
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    assert page.locator(".match:visible").count() == 1
    page.get_by_label("Containing").fill("")
    page.get_by_label("Sort by").select_option("levenshtein")
    shown = [float(card.get_attribute("data-levenshtein") or 0) for card in cards.all()]
    assert shown == sorted(shown, reverse=True)


def test_figures_have_their_colours(page: Page) -> None:
    """What the policy blocks would be black: every figure has a filled shape that is not."""
    for figure in page.locator("figure svg").all():
        fills = figure.locator("path").evaluate_all(
            "paths => paths.map(path => getComputedStyle(path).fill)"
        )
        assert {"rgb(255, 255, 255)", "none"} & set(fills) or len(set(fills)) > 1


def test_on_a_phone_the_page_does_not_scroll_sideways(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
