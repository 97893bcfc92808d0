"""The report in a real browser, from a file: no request, no error, nothing over anything else, light and dark."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from boursomatic_assets.display.report.writing import report_page
from boursomatic_assets_tests.support.browser import Window, in_chromium
from boursomatic_assets_tests.support.opened_pages import TEXT_BOXES, Opened, check_that_no_text_runs, overlapping
from boursomatic_assets_tests.support.pages import HOSTILE
from boursomatic_assets_tests.support.synthetic_report import (
    PROOFS,
    evaluation_of,
    importance_of,
    model_of,
    poisoned_report,
    walk_forward_of,
)

CHARTS = 15
SCREENS = {"laptop": (1366, 768), "phone": (390, 844)}
SCHEMES = ("light", "dark")
PLOTS = """() => [...document.querySelectorAll('.plot')].map((plot) => ({
  name: plot.id,
  shapes: plot.querySelectorAll('.scatterlayer path, .barlayer path').length,
  inside: plot.querySelector('.main-svg').getBoundingClientRect().right <= plot.getBoundingClientRect().right + 1,
  ink: getComputedStyle(plot.querySelector('.xtick text')).fill,
}))"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, name = tmp_path_factory.mktemp("report") / "report.html", "A" * 200
    walk_forward = walk_forward_of()
    walk_forward["comparisons"].append({**walk_forward["comparisons"][0], "baseline": name, "measure": name})
    walk_forward["curves"]["books"][name] = walk_forward["curves"]["books"]["buy"]
    page = report_page(evaluation_of(), walk_forward, importance_of(), PROOFS, model_of())
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture(
    scope="module",
    params=[(screen, scheme) for screen in SCREENS for scheme in SCHEMES],
    ids="-".join,
)
def opened(window: Window, file: Path, request: pytest.FixtureRequest) -> Opened:
    screen, scheme = request.param
    width, height = SCREENS[screen]
    messages: list[str] = []
    window.errors.clear()
    window.addresses.clear()
    window.page.on("console", lambda message: messages.append(message.text))
    window.page.set_viewport_size({"width": width, "height": height})
    window.page.emulate_media(color_scheme=scheme)
    window.page.goto(file.as_uri())
    page = Opened(window, width, scheme, messages)
    page.wait_until_drawn()
    wanted = os.environ.get("BOURSOMATIC_SCREENSHOTS")
    if wanted:
        Path(wanted).mkdir(parents=True, exist_ok=True)
        window.page.screenshot(path=Path(wanted) / f"report_{screen}_{scheme}.png", full_page=True)
    return page


@in_chromium
def test_report_requests_nothing_and_has_no_error(opened: Opened, file: Path) -> None:
    assert opened.window.addresses <= {file.as_uri(), "data:,"}
    assert opened.window.errors == []
    assert opened.messages == []


@in_chromium
def test_report_never_scrolls_sideways(opened: Opened) -> None:
    assert opened.ask("document.documentElement.scrollWidth") == opened.width


@in_chromium
def test_report_draws_every_chart_in_place_and_in_the_scheme(opened: Opened) -> None:
    plots = opened.ask(PLOTS)
    assert len(plots) == CHARTS
    assert [plot["name"] for plot in plots if not plot["shapes"] or not plot["inside"]] == []
    faint = {"light": "rgb(92, 98, 107)", "dark": "rgb(165, 171, 180)"}[opened.scheme]
    assert {plot["ink"] for plot in plots} == {faint}


@in_chromium
def test_report_has_no_overlapping_texts(opened: Opened) -> None:
    opened.ask("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    boxes = opened.ask(TEXT_BOXES)
    assert len(boxes) > 700
    assert overlapping(boxes) == []
    # Wide enough for a word: letters do not stand one beneath the other.
    headings = "[...document.querySelectorAll('tbody th[scope=row]')].map((heading) => heading.offsetWidth)"
    assert min(opened.ask(headings)) > 40


def test_overlapping_allows_shared_leading() -> None:
    def box(text: str, left: int, top: int) -> dict[str, Any]:
        return {"text": text, "left": left, "right": left + 20, "top": top, "bottom": top + 10}

    # b begins 5 px before a ends, and beneath it; c is beside a; d is below a, by its leading
    boxes = [box("a", 0, 0), box("b", 5, 5), box("c", 20, 0), box("d", 40, 8)]
    assert overlapping(boxes) == [("a", "b"), ("c", "b")]


@in_chromium
def test_charts_follow_a_change_of_scheme(window: Window, file: Path) -> None:
    window.page.emulate_media(color_scheme="light")
    window.page.goto(file.as_uri())
    page = Opened(window, 0, "light", [])
    page.wait_until_drawn()
    before = page.ask(PLOTS)[0]["ink"]
    window.page.emulate_media(color_scheme="dark")
    window.page.wait_for_function(
        "ink => getComputedStyle(document.querySelector('.plot .xtick text')).fill !== ink", arg=before
    )


@in_chromium
def test_books_chart_shows_and_hides_a_book_on_click(window: Window, file: Path) -> None:
    window.page.goto(file.as_uri())
    page = Opened(window, 0, "light", [])
    page.wait_until_drawn()
    lines = "document.querySelectorAll('#test_set_books .scatterlayer .trace').length"
    # Four books at first, each with its wealth and its drawdown.
    assert page.ask(lines) == 8
    button = window.page.locator("button[data-figure=test_set_books]", has_text="12-1 momentum")
    button.click()
    window.page.wait_for_function(f"{lines} === 10")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    window.page.wait_for_function(f"{lines} === 8")


@in_chromium
def test_report_prints_light_and_whole(window: Window, file: Path) -> None:
    window.page.set_viewport_size({"width": 1366, "height": 768})
    window.page.emulate_media(color_scheme="dark")
    window.page.goto(file.as_uri())
    page = Opened(window, 0, "dark", [])
    page.wait_until_drawn()
    page.ask("dispatchEvent(new Event('beforeprint'))")
    printed = page.ask(PLOTS)
    assert {plot["ink"] for plot in printed} == {"rgb(92, 98, 107)"}
    widths = "[...document.querySelectorAll('.plot .main-svg')].map((drawn) => drawn.getBoundingClientRect().width)"
    window.page.wait_for_function(f"Math.max(...{widths}) <= 680")
    page.ask("dispatchEvent(new Event('afterprint'))")
    window.page.wait_for_function(f"Math.max(...{widths}) > 900")


@in_chromium
def test_report_runs_no_text_as_a_script(window: Window, tmp_path: Path) -> None:
    check_that_no_text_runs(window, tmp_path / "report.html", poisoned_report(HOSTILE))
