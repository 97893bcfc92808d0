"""The report in a real browser, from a file: no request, no error, nothing over anything else, light and dark."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from boursomatic_assets.display.report.writing import report_page
from boursomatic_assets_tests.display.report.test_report import HOSTILE, poisoned_page
from boursomatic_assets_tests.support.browser import Window, in_chromium, open_window
from boursomatic_assets_tests.support.synthetic_report import (
    PROOFS,
    evaluation_of,
    importance_of,
    model_of,
    walk_forward_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SCREENS = {"laptop": (1366, 768), "phone": (390, 844)}
SCHEMES = ("light", "dark")
# Boxes of text have some space above and below their letters: so much of it may be shared, in px.
LEADING = 3
CHARTS = 15

# Boxes of all texts that can be seen: lines of text as they are broken, labels of charts, buttons.
# What lies outside a table's box has scrolled away, and is not seen.
TEXT_BOXES = """() => {
  const boxes = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, holder = node.parentElement;
    if (!node.data.trim()) continue;
    if (holder.closest('script, style, noscript, details:not([open]) > :not(summary)')) continue;
    if (!holder.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })) continue;
    const scroll = holder.closest('.scroll')?.getBoundingClientRect();
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      const left = Math.max(box.left, scroll?.left ?? -Infinity);
      const right = Math.min(box.right, scroll?.right ?? Infinity);
      if (right - left < 1 || box.height < 1) continue;
      const text = node.data.trim().slice(0, 40);
      boxes.push({ text, left, right, top: box.top + scrollY, bottom: box.bottom + scrollY });
    }
  }
  return boxes;
}"""

PLOTS = """() => [...document.querySelectorAll('.plot')].map((plot) => ({
  name: plot.id,
  shapes: plot.querySelectorAll('.scatterlayer path, .barlayer path').length,
  inside: plot.querySelector('.main-svg').getBoundingClientRect().right <= plot.getBoundingClientRect().right + 1,
  ink: getComputedStyle(plot.querySelector('.xtick text')).fill,
}))"""


@dataclass(frozen=True)
class Opened:
    """The page on one screen."""

    window: Window
    width: int
    scheme: str
    messages: list[str]

    def ask(self, expression: str) -> Any:  # noqa: ANN401
        return self.window.page.evaluate(expression)

    def wait_until_drawn(self) -> None:
        self.window.page.wait_for_selector("html[data-drawn]", state="attached")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, name = tmp_path_factory.mktemp("report") / "report.html", "A" * 200
    walk_forward = walk_forward_of()
    walk_forward["comparisons"].append({**walk_forward["comparisons"][0], "baseline": name, "measure": name})
    walk_forward["curves"]["books"][name] = walk_forward["curves"]["books"]["buy"]
    page = report_page(evaluation_of(), walk_forward, importance_of(), PROOFS, model_of())
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def window() -> Iterator[Window]:
    with open_window() as opened:
        yield opened


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
def test_the_page_asks_for_nothing_and_breaks_on_nothing(opened: Opened, file: Path) -> None:
    assert opened.window.addresses <= {file.as_uri(), "data:,"}
    assert opened.window.errors == []
    assert opened.messages == []


@in_chromium
def test_the_page_never_scrolls_sideways(opened: Opened) -> None:
    assert opened.ask("document.documentElement.scrollWidth") == opened.width


@in_chromium
def test_every_chart_is_drawn_within_its_place_in_the_colours_of_the_scheme(opened: Opened) -> None:
    plots = opened.ask(PLOTS)
    assert len(plots) == CHARTS
    assert [plot["name"] for plot in plots if not plot["shapes"] or not plot["inside"]] == []
    faint = {"light": "rgb(92, 98, 107)", "dark": "rgb(165, 171, 180)"}[opened.scheme]
    assert {plot["ink"] for plot in plots} == {faint}


@in_chromium
def test_no_text_lies_over_another(opened: Opened) -> None:
    opened.ask("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    boxes = opened.ask(TEXT_BOXES)
    assert len(boxes) > 700
    assert _overlapping(boxes) == []
    # Wide enough for a word: letters do not stand one beneath the other.
    headings = "[...document.querySelectorAll('tbody th[scope=row]')].map((heading) => heading.offsetWidth)"
    assert min(opened.ask(headings)) > 40


def _overlapping(boxes: list[dict[str, Any]]) -> list[tuple[str, str]]:
    found, ordered = [], sorted(boxes, key=lambda box: box["top"])
    for place, upper in enumerate(ordered):
        for lower in ordered[place + 1 :]:
            if lower["top"] >= upper["bottom"] - LEADING:
                break
            shared = min(upper["right"], lower["right"]) - max(upper["left"], lower["left"])
            if shared > 1:
                found.append((upper["text"], lower["text"]))
    return found


def test_boxes_that_share_more_than_their_leading_overlap() -> None:
    def box(text: str, left: int, top: int) -> dict[str, Any]:
        return {"text": text, "left": left, "right": left + 20, "top": top, "bottom": top + 10}

    # b begins 5 px before a ends, and beneath it; c is beside a; d is below a, by its leading
    boxes = [box("a", 0, 0), box("b", 5, 5), box("c", 20, 0), box("d", 40, 8)]
    assert _overlapping(boxes) == [("a", "b"), ("c", "b")]


@in_chromium
def test_charts_follow_when_the_reader_changes_the_scheme(window: Window, file: Path) -> None:
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
def test_a_click_in_the_key_brings_a_book_and_takes_it_away(window: Window, file: Path) -> None:
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
def test_on_paper_it_is_light_and_no_chart_is_cut_off(window: Window, file: Path) -> None:
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


def check_that_no_text_runs(window: Window, path: Path, page: str) -> None:
    """Open a page with hostile texts: a script that runs opens a dialog, one that is blocked is a message."""
    messages: list[str] = []
    path.write_text(page, encoding="utf-8")
    window.errors.clear()
    window.addresses.clear()
    window.page.on("console", lambda message: messages.append(message.text))
    window.page.on("dialog", lambda dialog: messages.append(dialog.message))
    window.page.goto(path.as_uri())
    if "data-figure" in page:
        Opened(window, 0, "light", []).wait_until_drawn()
    assert (window.errors, messages) == ([], [])
    assert window.addresses <= {path.as_uri(), "data:,"}
    assert window.page.locator("img, iframe, object, [onerror]").count() == 0
    assert HOSTILE in window.page.locator("body").inner_text()


@in_chromium
def test_no_text_runs_as_a_script(window: Window, tmp_path: Path) -> None:
    check_that_no_text_runs(window, tmp_path / "report.html", poisoned_page(HOSTILE))
