"""What vouches for the figures: the checks of this installation, and the proof runs of the product."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boursomatic_assets.display.report.page import (
    DASH,
    cell,
    element,
    escaped,
    heading,
    number,
    paragraph,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boursomatic_assets.storage.dagster.check_results import CheckResult


def checks_table(checks: Sequence[CheckResult]) -> str:
    """The checks of this installation with their last results."""
    if not checks:
        return paragraph("No check is known of here.", "nothing")
    columns = (
        ("Of", "text"), ("Check", "text"), ("Last result", "text"), ("When (UTC)", "number"),
        ("What it says", "text"),
    )  # fmt: skip
    words = {True: ("passed", "text passed"), False: ("failed", "text failed"), None: ("never evaluated", "text")}
    groups: dict[bool, list[str]] = {True: [], False: []}
    for check in checks:
        text, kind = words[check.passed]
        groups[check.blocking].append(
            heading(check.asset, "row")
            + cell(check.name.replace("_", " "), "text")
            + cell(text, kind)
            + cell(f"{check.evaluated_at:%Y-%m-%d %H:%M}" if check.evaluated_at else DASH)
            + cell(check.description.strip().partition("\n")[0], "text long")
        )
    titles = {True: "A failure stops what follows", False: "A failure warns"}
    bodies = [
        [heading(titles[kind], "rowgroup", colspan=len(columns)), *rows] for kind, rows in groups.items() if rows
    ]
    return table("Checks of this installation", columns, bodies)


def proof_runs(runs: Mapping[str, Any]) -> str:
    """What the product's own proof runs measured; whatever they hold is shown."""
    titles = {
        "null": "Without a signal (random walks)",
        "power": "With a planted signal",
        "leaks": "Planted leaks, each stopped by a named check",
    }
    when = paragraph(f"Proof runs of the product, measured on {runs.get('measured') or 'an unknown day'}.")
    parts = [
        _proof(titles.get(name, _words(name)), found)
        for name, found in runs.items()
        if name != "measured" and found
    ]
    return when + "".join(parts)


def _proof(title: str, found: object) -> str:
    if isinstance(found, dict):
        return pairs_table(title, {_words(str(name)): _shown(value) for name, value in found.items()})
    items: list[Any] = found if isinstance(found, list) else [found]
    if all(isinstance(item, dict) for item in items):
        names = list(dict.fromkeys(str(name) for item in items for name in item))
        rows = ["".join(_proof_cell(place, item.get(name)) for place, name in enumerate(names)) for item in items]
        return table(title, [(_words(name).capitalize(), "text") for name in names], [rows])
    return element("h3", escaped(title)) + element(
        "ul", "".join(element("li", escaped(_shown(item))) for item in items)
    )


def _proof_cell(place: int, value: object) -> str:
    return heading(_shown(value), "row") if place == 0 else cell(_shown(value), "text")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return ", ".join(f"{_words(str(name))} {_shown(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return DASH if value is None else str(value)


def pairs_table(caption: str, pairs: Mapping[str, object]) -> str:
    """Names and what they are."""
    rows = [heading(name, "row") + cell(_shown(value), "text") for name, value in pairs.items()]
    return table(caption, (("", "text"), ("", "text")), [rows], "narrow")
