"""What `boursomatic trace` shows: the steps from a recommendation to its bars, as a tree and as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.tree import Tree

from boursomatic_assets.core.trace.tree import CHANGED, DIFFERS, GONE, MATCHES, NOT_RECORDED
from boursomatic_assets.display.report.page import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boursomatic_assets.core.trace.tree import Trace, TraceStep

# A split rewrites a whole history; --json lists all of it.
MOST_CHILDREN = 20
MOST_SOURCES = 10
_COLOURS = {MATCHES: "green", CHANGED: "cyan", NOT_RECORDED: "yellow", GONE: "red", DIFFERS: "red"}
_KINDS = {MATCHES: "good", CHANGED: "moved", NOT_RECORDED: "unknown", GONE: "bad", DIFFERS: "bad"}
_DIGEST_LETTERS, _SHOWN_LETTERS = 64, 72
_BEGINNING = 12


def trace_report(trace: Trace) -> list[Tree | str]:
    """The tree with differences written out, and the conclusion."""
    facts = trace.facts
    tree = Tree(
        f"[bold]{escape(facts['symbol'])}[/bold] {facts['session']} {facts['profile']}: "
        f"[bold]{facts['label']}[/bold] [dim]{escape(facts['version'])}, {facts['id']}[/dim]"
    )
    for step in trace.root.children or [trace.root]:
        _grow(tree, step)
    return [tree, *_conclusion(trace)]


def _grow(tree: Tree, step: TraceStep) -> None:
    said = "; ".join(filter(None, [_known(step), step.detail]))
    branch = tree.add(
        f"[{_COLOURS[step.status]}]{step.status}[/] {escape(step.name)}"
        + (f" [dim]{escape(said)}[/dim]" if said else "")
    )
    if not step.is_sound and not step.children and (step.recorded or step.found):
        branch.add(f"recorded {escape(step.recorded)}")
        branch.add(f"found    {escape(step.found)}")
    for child in step.children[:MOST_CHILDREN]:
        _grow(branch, child)
    if len(step.children) > MOST_CHILDREN:
        branch.add(f"[dim]and {len(step.children) - MOST_CHILDREN:,} more; all of them: --json[/dim]")


def _known(step: TraceStep) -> str:
    if not step.is_sound:
        return ""
    values = dict.fromkeys(_short(text) for text in (step.recorded, step.found))
    return " -> ".join(filter(None, values))


def _short(text: str) -> str:
    if len(text) == _DIGEST_LETTERS and " " not in text:
        return f"{text[:_BEGINNING]}..."
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}..."


def _conclusion(trace: Trace) -> list[Tree | str]:
    if trace.matches:
        return [f"[bold green]Matches[/bold green]: {_matching(trace)}"]
    sources = trace.root.sources()
    listed = [f"  {escape(_place(path))}: {escape(_difference(step))}" for path, step in sources[:MOST_SOURCES]]
    more = [f"  and {len(sources) - MOST_SOURCES:,} more"] if len(sources) > MOST_SOURCES else []
    return ["[bold red]Differs[/bold red], at its source:", *listed, *more]


def _matching(trace: Trace) -> str:
    steps = sum(1 for _ in trace.root.walk())
    moved = any(step.status == CHANGED for _, step in trace.root.walk())
    around = "; code or packages have changed since, without effect on it" if moved else ""
    return f"all {steps} steps are as they were, to the last bit{around}."


def _place(path: Sequence[str]) -> str:
    return " > ".join(path[1:] or path)


def _difference(step: TraceStep) -> str:
    values = f"{step.recorded} -> {step.found}" if step.recorded or step.found else ""
    return "; ".join(filter(None, [f"{step.status}: {values}" if values else step.status, step.detail]))


def trace_page(trace: Trace) -> bytes:
    """The same as an HTML page that loads nothing."""
    return render(
        "trace.html",
        facts=trace.facts,
        matching=_matching(trace),
        differences=[(_place(path), _difference(step)) for path, step in trace.root.sources()],
        steps=trace.root.children or (trace.root,),
        kinds=_KINDS,
        most_children=MOST_CHILDREN,
        most_differences=MOST_SOURCES,
    ).encode()
