from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.commands.opening import print_csv

if TYPE_CHECKING:
    import pytest


def test_print_csv_gives_a_spreadsheet_no_formula(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["=1+1", "+1", "-1", "@a", "\tb", "plain", "a=1", None]
    print_csv(pl.DataFrame({"name": names, "number": [-1.5] * len(names)}))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:6] == ["'=1+1,-1.5", "'+1,-1.5", "'-1,-1.5", "'@a,-1.5", "'\tb,-1.5"]
    assert lines[6:] == ["plain,-1.5", "a=1,-1.5", ",-1.5"]
