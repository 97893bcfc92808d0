"""The product as a person sees it: in a headless Chromium."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import pytest
from playwright.sync_api import expect, sync_playwright

from benchmarks.product import HOST, RUN_SECONDS, Product, running_product, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

__all__ = [
    "HOST", "RUN_SECONDS", "Product", "Window", "in_chromium", "open_window", "running_product", "wait_until",
]  # fmt: skip

# As long as a page may take on a busy machine; nothing waits longer than for what it waits for.
PAGE_MILLISECONDS = 180_000

_CHROMIUM_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

Test = TypeVar("Test", bound="Callable[..., None]")


def in_chromium(test: Test) -> Test:
    """Mark a test that needs the browser.

    Without one it is left out by name; with `BOURSOMATIC_TESTS_COMPLETE` set, as in CI, it fails.
    """
    absent = _chromium() is None and not os.environ.get("BOURSOMATIC_TESTS_COMPLETE")
    # Each reason names its test, so that the summary lists every one instead of their number.
    reason = f"{test.__name__} is left out: there is no Chromium (on Debian: apt-get install chromium)"
    return pytest.mark.browser(pytest.mark.skipif(absent, reason=reason)(test))


def _chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@dataclass
class Window:
    """A browser window, and all that its pages asked for or broke on."""

    page: Page
    addresses: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PAGE_MILLISECONDS)
        # Each page opens as it does for a newcomer: the UI remembers which groups were expanded. A blank page
        # has no storage.
        self.page.add_init_script("if (location.origin !== 'null') localStorage.clear()")
        self.page.on("request", lambda request: self.addresses.add(request.url))
        self.page.on("websocket", lambda connection: self.addresses.add(connection.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))


@contextmanager
def open_window() -> Iterator[Window]:
    """A window of a headless Chromium."""
    executable = _chromium()
    if executable is None:
        pytest.fail("there is no Chromium, and BOURSOMATIC_TESTS_COMPLETE lets no test be left out")
    expect.set_options(timeout=PAGE_MILLISECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_CHROMIUM_FLAGS)
        yield Window(browser.new_page())
        browser.close()
