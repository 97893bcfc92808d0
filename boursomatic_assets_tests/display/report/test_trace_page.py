"""A trace in the terminal and as a page."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from boursomatic_assets.core.trace.tree import CHANGED, DIFFERS, GONE, MATCHES, NOT_RECORDED, Trace, TraceStep
from boursomatic_assets.display.report.trace_page import MOST_CHILDREN, trace_page, trace_report
from boursomatic_assets_tests.support.browser import Window, in_chromium
from boursomatic_assets_tests.support.opened_pages import TEXT_BOXES, check_that_no_text_runs, overlapping
from boursomatic_assets_tests.support.pages import HOSTILE, HOSTILE_TEXTS, occurrences, structure, words_of

if TYPE_CHECKING:
    from pathlib import Path

DIGEST, OTHER = "1cda924a3e267802" * 4, "ac818eba0eefec3a" * 4
FACTS = {
    "id": "01a2059a-f619-442e-8f38-4d211850f40f",
    "symbol": "A&B",
    "session": "2013-03-01",
    "profile": "moderate",
    "label": "HOLD",
    "version": "20240301_183000_1a2b3c",
    "generated_at": "2024-03-01 18:31:00",
    "confidence": "0.3619018708106397",
    "justification": "The price fell 5 % <over> the last month.",
}
SNAPSHOT = TraceStep("snapshot", MATCHES, DIGEST, DIGEST, "by its digest")
CODE = TraceStep("code revision", CHANGED, "polars 1.0", "polars 1.1")
FILE = TraceStep("classifier.txt", DIFFERS, DIGEST, OTHER, "as the manifest says")
BUNDLE = TraceStep("model bundle", DIFFERS, detail="in " + "folder/" * 30, children=(FILE, CODE))
RUN = TraceStep("recommending run", GONE, "r1", "nothing", "Dagster does not know this run")
EXCHANGE = TraceStep("exchange", NOT_RECORDED, "nothing", "XNAS")


def bars(count: int) -> TraceStep:
    changed = (TraceStep(f"bar {number}", DIFFERS, "close 1.0", "close 2.0") for number in range(count))
    return TraceStep("bars", DIFFERS, "1", "2", f"{count} bars changed since", tuple(changed))


def trace_of(*steps: TraceStep) -> Trace:
    status = MATCHES if all(step.is_sound for step in steps) else DIFFERS
    return Trace(FACTS, TraceStep("recommendation", status, children=steps))


def printed(trace: Trace) -> str:
    console = Console(file=io.StringIO(), width=200)
    for part in trace_report(trace):
        console.print(part, soft_wrap=isinstance(part, str))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_trace_report_of_a_match_counts_its_steps() -> None:
    said = printed(trace_of(SNAPSHOT))
    # the recommendation and its snapshot
    assert "Matches: all 2 steps are as they were, to the last bit.\n" in said
    assert "matches snapshot 1cda924a3e26...; by its digest" in said
    assert "<strong>Matches.</strong> All 2 steps are as they were" in trace_page(trace_of(SNAPSHOT)).decode()


def test_trace_report_accepts_changed_code() -> None:
    said = printed(trace_of(SNAPSHOT, CODE))
    assert "Matches: all 3 steps are as they were, to the last bit; code or packages have changed since" in said
    assert "changed since code revision polars 1.0 -> polars 1.1" in said


def test_trace_report_writes_out_differences_and_names_them_at_the_end() -> None:
    said = printed(trace_of(SNAPSHOT, BUNDLE, RUN, EXCHANGE))
    assert f"recorded {DIGEST}" in said
    assert f"found    {OTHER}" in said
    assert f"model bundle > classifier.txt: differs: {DIGEST} -> {OTHER}; as the manifest says" in said
    assert "recommending run: gone: r1 -> nothing; Dagster does not know this run" in said
    assert "exchange: not recorded: nothing -> XNAS" in said


def test_trace_report_and_page_list_the_first_of_many_bars() -> None:
    trace = trace_of(bars(MOST_CHILDREN + 5))
    for said in (printed(trace), words_of(trace_page(trace).decode())):
        assert f"bar {MOST_CHILDREN - 1}" in said
        assert f"bar {MOST_CHILDREN}" not in said
        assert "and 5 more" in said
        # ten of the twenty-five sources
        assert "and 15 more" in said


def test_trace_report_and_page_say_why_a_trace_is_impossible() -> None:
    trace = Trace(FACTS, TraceStep("recommendation", NOT_RECORDED, detail="another program wrote [it]"))
    for said in (printed(trace), words_of(trace_page(trace).decode())):
        assert "recommendation: not recorded; another program wrote [it]" in " ".join(
            said.replace(" :", ":").split()
        )


def test_trace_page_escapes_every_text_and_loads_nothing() -> None:
    page = trace_page(trace_of(SNAPSHOT, BUNDLE, RUN)).decode()
    assert "A&amp;B 2013-03-01" in page
    assert "&lt;over&gt;" in page
    assert "<script" not in page
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == ["data:,"]
    assert "default-src 'none'" in page
    assert len(page) < 20_000


def poisoned_page(text: str) -> str:
    """The page with a text wherever one can stand."""
    child = TraceStep(text, DIFFERS, text, f"{text}2", text)
    steps = (TraceStep(text, GONE, text, text, text, (child,)), TraceStep(text, CHANGED, "1", text))
    return trace_page(Trace(dict.fromkeys(FACTS, text), TraceStep(text, DIFFERS, children=steps))).decode()


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_trace_page_keeps_hostile_texts_as_text(text: str) -> None:
    harmless = "x" * len(text)
    page, expected = poisoned_page(text), poisoned_page(harmless)
    assert structure(page) == structure(expected)
    assert occurrences(page, text) == occurrences(expected, harmless) > 10


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "trace.html"
    path.write_bytes(trace_page(trace_of(SNAPSHOT, BUNDLE, bars(30), RUN, EXCHANGE)))
    return path


@in_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1366, 768), (390, 844), (320, 600)])
def test_trace_page_is_readable_in_any_window(
    window: Window, file: Path, width: int, height: int, scheme: str
) -> None:
    messages: list[str] = []
    window.page.on("console", lambda message: messages.append(message.text))
    window.page.set_viewport_size({"width": width, "height": height})
    window.page.emulate_media(color_scheme=scheme)
    window.page.goto(file.as_uri())
    assert window.addresses <= {file.as_uri(), "data:,"}
    assert (window.errors, messages) == ([], [])
    assert window.page.evaluate("document.documentElement.scrollWidth") == width
    boxes = window.page.evaluate(TEXT_BOXES)
    assert len(boxes) > 100
    assert overlapping(boxes) == []
    paper = {"light": "rgb(253, 252, 250)", "dark": "rgb(21, 23, 26)"}[scheme]
    assert window.page.evaluate("getComputedStyle(document.body).backgroundColor") == paper


@in_chromium
def test_trace_page_runs_no_text_as_a_script(window: Window, tmp_path: Path) -> None:
    check_that_no_text_runs(window, tmp_path / "trace.html", poisoned_page(HOSTILE))
