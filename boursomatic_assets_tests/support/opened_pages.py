"""Pages of the product opened in a browser from a file: what can be seen, and what must not run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boursomatic_assets_tests.support.pages import HOSTILE

if TYPE_CHECKING:
    from pathlib import Path

    from boursomatic_assets_tests.support.browser import Window

# Boxes of text have some space above and below their letters: so much of it may be shared, in px.
LEADING = 3
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


def overlapping(boxes: list[dict[str, Any]]) -> list[tuple[str, str]]:
    found, ordered = [], sorted(boxes, key=lambda box: box["top"])
    for place, upper in enumerate(ordered):
        for lower in ordered[place + 1 :]:
            if lower["top"] >= upper["bottom"] - LEADING:
                break
            shared = min(upper["right"], lower["right"]) - max(upper["left"], lower["left"])
            if shared > 1:
                found.append((upper["text"], lower["text"]))
    return found


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
