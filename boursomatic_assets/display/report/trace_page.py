"""What `boursomatic trace` shows: the way from a recommendation to its bars, as a tree and as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.tree import Tree

from boursomatic_assets.core.trace.tree import CHANGED, DIFFERS, GONE, MATCHES, NOT_RECORDED, shown
from boursomatic_assets.display.report.page import cell, element, escaped, heading, paragraph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boursomatic_assets.core.trace.tree import Trace, TraceStep

# A split rewrites a whole history; JSON has all of it.
MOST_CHILDREN = 20
MOST_SOURCES = 10
_COLOURS = {MATCHES: "green", CHANGED: "cyan", NOT_RECORDED: "yellow", GONE: "red", DIFFERS: "red"}
_KINDS = {MATCHES: "good", CHANGED: "moved", NOT_RECORDED: "unknown", GONE: "bad", DIFFERS: "bad"}
_DIGEST_LETTERS, _SHOWN_LETTERS = 64, 72
_BEGINNING = 12


def trace_report(trace: Trace) -> list[Tree | str]:
    """The tree with what differs written out, and the conclusion."""
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
    """The same as one HTML page that asks for nothing else."""
    facts = trace.facts
    title = f"{facts['symbol']} {facts['session']}, {facts['profile']}: {facts['label']}"
    steps = trace.root.children or (trace.root,)
    tree = element("ol", "".join(map(_item, steps)), **{"class": "steps"})
    body = element("header", element("p", "Trace of a recommendation") + element("h1", escaped(title))) + element(
        "main", _facts(trace) + _verdict(trace) + element("h2", "Step by step") + _KEY + tree
    )
    head = (
        '<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        # Without one, a browser would look for an icon.
        f'<link rel="icon" href="data:,"><title>{escaped(title)}</title><style>{_STYLE}</style>'
    )
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'.encode()


def _facts(trace: Trace) -> str:
    names = {"version": "Model", "generated_at": "Made (UTC)", "confidence": "Confidence", "id": "Recommendation"}
    pairs = "".join(
        element("div", element("dt", escaped(name)) + element("dd", escaped(shown(trace.facts[key]))))
        for key, name in names.items()
    )
    return paragraph(shown(trace.facts["justification"]), "said") + element("dl", pairs, **{"class": "facts"})


def _verdict(trace: Trace) -> str:
    if trace.matches:
        return element(
            "p", f"<strong>Matches.</strong> {escaped(_matching(trace).capitalize())}", **{"class": "verdict good"}
        )
    sources = trace.root.sources()
    listed = "".join(
        element("li", f"<strong>{escaped(_place(path))}</strong>: {escaped(_difference(step))}")
        for path, step in sources[:MOST_SOURCES]
    )
    more = element("li", f"and {len(sources) - MOST_SOURCES:,} more") if len(sources) > MOST_SOURCES else ""
    said = element("p", "<strong>Differs</strong>, at its source:") + element("ul", listed + more)
    return element("div", said, **{"class": "verdict bad"})


def _item(step: TraceStep) -> str:
    badge = element("span", escaped(step.status), **{"class": f"badge {_KINDS[step.status]}"})
    same = step.recorded == step.found
    value = element("code", escaped(step.recorded)) if step.recorded and same else ""
    said = element("span", escaped(step.detail), **{"class": "detail"}) if step.detail else ""
    line = element("h3", f"{escaped(step.name)} {badge}") + (
        element("p", f"{value} {said}") if value or said else ""
    )
    children = "".join(map(_item, step.children[:MOST_CHILDREN]))
    if len(step.children) > MOST_CHILDREN:
        children += element("li", paragraph(f"and {len(step.children) - MOST_CHILDREN:,} more"))
    return element("li", line + ("" if same else _values(step)) + (element("ol", children) if children else ""))


def _values(step: TraceStep) -> str:
    pairs = (("then", step.recorded), ("now", step.found))
    rows = "".join(element("tr", heading(name, "row") + cell(text, "value")) for name, text in pairs)
    return element("table", element("tbody", rows))


_KEY = paragraph(
    "Each step stands above what it was made from. “Then” is what was written down when the recommendation was "
    "made, “now” what is there today or comes out when the step is computed again; numbers with all their digits.",
    "faint",
)
_STYLE = """
:root {
  color-scheme: light; --paper: #fdfcfa; --ink: #1d1f23; --faint: #5c626b; --rule: #d9d7d2; --wash: #f3f1ec;
  --good: #00664f; --bad: #b3290a; --unknown: #855300; --moved: #0f5fa6;
}
@media (prefers-color-scheme: dark) {
  :root {
    color-scheme: dark; --paper: #15171a; --ink: #e8e6e1; --faint: #a5abb4; --rule: #383c43; --wash: #22262b;
    --good: #5bd0ae; --bad: #ff9475; --unknown: #f0b45a; --moved: #7dbaf0;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 900px; padding: 0 clamp(16px, 3vw, 32px) 3rem; background: var(--paper);
  color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
}
header p, .faint { color: var(--faint); }
header p { margin: 2rem 0 0; font-size: .9rem; }
h1 { font: 600 clamp(1.5rem, 4vw, 2.1rem)/1.2 Charter, "Bitstream Charter", Georgia, serif; margin: .1rem 0 .8rem; }
h2 { font: 600 1.3rem/1.2 Charter, "Bitstream Charter", Georgia, serif; margin: 2.2rem 0 .4rem; }
h3 {
  font-size: 1rem; font-weight: 600; margin: 0; display: flex; flex-wrap: wrap; gap: .1rem .6rem;
  align-items: baseline;
}
p { margin: .2rem 0; max-width: 46rem; }
.said { margin-bottom: .8rem; }
dl.facts { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 0; }
dl.facts div { min-width: 0; }
dt { font-size: .8rem; color: var(--faint); }
dd { margin: 0; }
.verdict { border-left: 4px solid; padding: .3rem 0 .3rem 1rem; margin: 1.4rem 0; }
.verdict.good { border-color: var(--good); } .verdict.bad { border-color: var(--bad); }
.verdict ul { margin: .3rem 0; padding-left: 1.1rem; }
.badge { font-size: .8rem; font-weight: 500; white-space: nowrap; }
.badge.good { color: var(--good); } .badge.bad { color: var(--bad); } .badge.unknown { color: var(--unknown); }
.badge.moved { color: var(--moved); }
ol { list-style: none; margin: .5rem 0 0; padding: 0; }
ol ol { border-left: 1px solid var(--rule); margin-left: .3rem; padding-left: clamp(.6rem, 2.5vw, 1.3rem); }
li + li { margin-top: .7rem; }
.verdict li + li { margin-top: .2rem; }
li > p { font-size: .9rem; margin: 0; }
.detail { color: var(--faint); }
code { font: .86em ui-monospace, "SF Mono", Menlo, Consolas, monospace; margin-right: .5rem; }
table { border-collapse: collapse; font-size: .84rem; line-height: 1.4; background: var(--wash); }
li > table { margin-top: .25rem; }
th, td { text-align: left; vertical-align: top; padding: .2rem .6rem; }
th { font-weight: 400; color: var(--faint); white-space: nowrap; }
td { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
@media print { body { max-width: none; font-size: 10pt; } li { break-inside: avoid-page; } }
"""
