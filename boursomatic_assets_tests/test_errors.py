from __future__ import annotations

import builtins
import inspect
import re
import sys

import pytest

from boursomatic_assets import errors
from boursomatic_assets.cli import main
from boursomatic_assets.errors import BoursomaticError

CLASSES = {name: value for name, value in vars(errors).items() if inspect.isclass(value)}


def drawn_bases() -> dict[str, set[str]]:
    """Class name to the names of its direct bases, as the drawing in the module's docstring has them."""
    bases: dict[str, set[str]] = {}
    above: list[tuple[int, str]] = []
    for match in re.finditer(
        r"^(?P<branch>[ │├└─]+)(?P<name>\w+Error)(?: \((?P<builtin>\w+)\))?", errors.__doc__ or "", re.MULTILINE
    ):
        depth = len(match["branch"])
        above = [(at, name) for at, name in above if at < depth]
        parent = above[-1][1] if above else "Exception"
        bases[match["name"]] = {parent} | ({match["builtin"]} if match["builtin"] else set())
        above.append((depth, match["name"]))
    return bases


def test_errors_drawing_lists_every_class() -> None:
    assert set(drawn_bases()) == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_errors_drawing_shows_the_bases_of_each_class(name: str) -> None:
    assert {base.__name__ for base in CLASSES[name].__bases__} == drawn_bases()[name]


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"BoursomaticError", "ProviderError", "StorageError"}))
def test_errors_derive_from_ours_and_a_built_in(name: str) -> None:
    ancestors = inspect.getmro(CLASSES[name])
    fitting = [base for base in ancestors if base.__module__ == builtins.__name__]
    assert BoursomaticError in ancestors
    # object, BaseException and Exception fit everything: there must be a fourth, such as ValueError
    assert len(fitting) > 3


@pytest.mark.parametrize("name", CLASSES)
def test_errors_show_their_message(name: str) -> None:
    assert str(CLASSES[name]("expected 21 sessions")) == "expected 21 sessions"


def test_main_prints_no_sign_that_drives_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["boursomatic", "universe", "check", "/nowhere/\x1b[2J\x07[/red].csv"])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err
    assert "[2J [/red].csv" in said
    assert "\x1b[2J" not in said
