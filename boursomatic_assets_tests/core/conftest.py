"""Fixtures of the core tests."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from boursomatic_assets.core.dataset.features import compute_features
from boursomatic_assets.core.market.adjusted_close import scale_to_adjusted
from boursomatic_assets.core.market.bars import check_bars
from boursomatic_assets_tests.support.oracles import sample_bars


@pytest.fixture(scope="session")
def adjusted_sample() -> pl.DataFrame:
    """Bar panel of the bundled sample, each whole bar scaled to its adjusted close."""
    return check_bars(scale_to_adjusted(pl.from_pandas(sample_bars())), today=date(2013, 3, 1)).accepted


@pytest.fixture(scope="session")
def sample_features(adjusted_sample: pl.DataFrame) -> pl.DataFrame:
    return compute_features(adjusted_sample)
