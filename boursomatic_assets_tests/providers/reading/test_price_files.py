"""Whatever file the strategy makes: read to exactly the right values, or refused with the reason."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, event, given, seed, settings

from boursomatic_assets.core.market.bars import PANEL_KEY, check_bars
from boursomatic_assets.errors import SourceFileError
from boursomatic_assets.providers.files import FilesProvider
from boursomatic_assets_tests.providers.reading.price_files import TODAY, PriceFile, price_files

if TYPE_CHECKING:
    import polars as pl

# 2,000 files in all, in four parts that may run side by side.
PARTS, FILES = 4, 500


def _read(path: Path) -> tuple[pl.DataFrame | None, str]:
    """Bars of a file, or why it was refused."""
    try:
        return FilesProvider(path).bars(), ""
    except SourceFileError as error:
        return None, str(error)


@pytest.mark.parametrize("part", range(PARTS))
def test_any_price_file_is_read_to_exactly_its_values_or_refused_with_the_reason(part: int) -> None:
    # Each part has a seed of its own, and so files of its own, the same in each run.
    chosen = settings(deadline=None, max_examples=FILES, suppress_health_check=[HealthCheck.too_slow])
    seed(part)(chosen(given(file=price_files())(require_exact_or_refused)))()


def require_exact_or_refused(file: PriceFile) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = file.write(Path(folder))
        read, refused = _read(path)
    if read is None:
        event("refused")
        assert str(path) in refused
        assert not file.must_be_read, refused
        assert "none found for" in refused or not file.is_incomplete
        return
    assert not file.is_incomplete
    event("read")
    checked = check_bars(read, today=TODAY)
    wrong = checked.accepted.join(file.bars, on=file.bars.columns, how="anti")
    assert wrong.is_empty(), wrong
    lost = file.bars.join(checked.accepted, on=PANEL_KEY, how="anti")
    assert lost.is_empty(), lost
    copies = read.height - file.bars.height
    assert checked.reasons() == ({"duplicate of a symbol and session": copies} if copies else {})


def test_the_strategy_makes_files_of_both_kinds() -> None:
    # A generator whose files are all refused, or all plain, would show nothing.
    seen = {"must be read": 0, "incomplete": 0, "packed": 0, "all": 0}

    @settings(deadline=None, max_examples=200, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(file=price_files())
    def count(file: PriceFile) -> None:
        seen["all"] += 1
        seen["must be read"] += file.must_be_read
        seen["incomplete"] += file.is_incomplete
        seen["packed"] += not file.name.endswith(".csv")

    count()
    # About one in nine is incomplete: fewer than five of two hundred do not happen by chance.
    assert all(value >= 5 for value in seen.values()), seen
