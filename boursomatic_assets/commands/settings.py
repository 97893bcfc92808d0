"""The command `boursomatic settings`: every environment variable with its value, and their documentation."""

import json
import os
from collections.abc import Mapping
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from boursomatic_assets.commands.opening import console
from boursomatic_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from boursomatic_assets.settings.variable import Variable

_PAGE = """# Configuration

Settings are environment variables. A variable that is set to nothing counts as not set. `boursomatic settings`
lists the values in force and hides secrets. An option of a command, such as `--provider`, or the resource
`platform` in the Launchpad overrides a variable for one run.

This page is generated: `boursomatic settings --markdown > docs/configuration.md`. The source is
`boursomatic_assets/settings/variables.py`.
"""


def settings(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print docs/configuration.md, without values.")
    ] = False,
) -> None:
    """List the environment variables: value in force, default and meaning. Secrets are hidden.

    Ends with 1 if a value cannot be used.
    """
    if as_json and as_markdown:
        message = "choose one of --json and --markdown"
        raise typer.BadParameter(message)
    if as_markdown:
        typer.echo(configuration_page(), nl=False)
        return
    from boursomatic_assets.settings import NoticeSettings
    from boursomatic_assets.settings.variables import GROUPS

    entries = {
        title: [_entry(variable, os.environ) for variable in variables] for title, variables in GROUPS.items()
    }
    every = [entry for group in entries.values() for entry in group]
    if as_json:
        typer.echo(json.dumps(every, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        for title, group in entries.items():
            console.print(Text(title, style="bold underline"))
            for entry in group:
                _print(entry)
    if any(entry["error"] for entry in every):
        raise typer.Exit(1)
    # Some variables need another one.
    NoticeSettings.from_environment()


def _entry(variable: "Variable[Any]", values: Mapping[str, str]) -> dict[str, Any]:
    try:
        value, error = variable.shown(values), None
    except ConfigurationError as refused:
        value, error = None, str(refused)
    return {
        "name": variable.name,
        "value": value,
        "is_set": variable.is_set(values),
        "default": variable.shown_default or None,
        "form": variable.form,
        "meaning": variable.meaning,
        "is_secret": bool(variable.secret.value),
        "error": error,
    }


def _print(entry: Mapping[str, Any]) -> None:
    value = ",".join(entry["value"]) if isinstance(entry["value"], list) else entry["value"]
    origin = "set" if entry["is_set"] else "not set" if value is None else "default"
    shown = "" if value is None else f" = {value if str(value).isprintable() else repr(value)}"
    console.print(Text.assemble("  ", (entry["name"], "bold"), shown, (f"  ({origin})", "dim")), soft_wrap=True)
    default = f"Default: {entry['default']}. " if entry["default"] else ""
    _print_indented(entry["meaning"])
    _print_indented(f"{default}Expected: {entry['form']}.", "dim")
    if entry["error"]:
        _print_indented(f"Cannot be used: {entry['error']}", "red")


def _print_indented(text: str, style: str = "") -> None:
    indent = " " * 4
    lines = wrap(
        text, console.width, initial_indent=indent, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    console.print(Text("\n".join(lines), style), soft_wrap=True)


def configuration_page() -> str:
    """`docs/configuration.md`, from the declarations alone."""
    from boursomatic_assets.settings.variables import GROUPS, OTHERS

    tables = [
        _table(
            title,
            ("Variable", "Meaning", "Form and unit", "Default"),
            [
                (f"`{each.name}`", f"{each.meaning} {each.secret.value}".strip(), each.form, _default(each))
                for each in variables
            ],
        )
        for title, variables in GROUPS.items()
    ]
    others = _table(
        "Other variables that the product sets or reads",
        ("Variable", "Use"),
        [(f"`{name}`", use) for name, use in OTHERS.items()],
    )
    return "\n".join([_PAGE, *tables, others])


def _default(variable: "Variable[Any]") -> str:
    return variable.default_note or (f"`{variable.shown_default}`" if variable.shown_default else "none")


def _table(title: str, head: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *body]
    return f"## {title}\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
