"""Leaks planted in the real pipeline: each is stopped by a check whose name says what is wrong.

A small market is ingested and trained once, with nothing planted: every check holds. Each test then plants one
fault in a copy of that installation, in the function that an asset calls or in what is stored, and runs what
follows: exactly the named checks fail, and no version is recorded.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa

from boursomatic_assets.assets import features as features_asset
from boursomatic_assets.assets import labels as labels_asset
from boursomatic_assets.assets import predictions as predictions_asset
from boursomatic_assets.assets import splits as splits_asset
from boursomatic_assets.core.dataset import labels as labels_core
from boursomatic_assets.core.dataset.features import compute_features
from boursomatic_assets.core.dataset.labels import label_panel
from boursomatic_assets.core.dataset.splits import Split, split_panel
from boursomatic_assets.core.models.predictions import set_of
from boursomatic_assets.core.models.threshold import Threshold, threshold_of
from boursomatic_assets.services import features as features_update
from boursomatic_assets_tests.assets.conftest import installation_on
from boursomatic_assets_tests.support.catalog import run
from boursomatic_assets_tests.support.installation import failed_in, failure_of
from boursomatic_assets_tests.support.stored import overwrite_panel
from boursomatic_assets_tests.support.trained_market import EXPERIMENT, HORIZON, SESSIONS, SYMBOLS, VERSION, market

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets_tests.support.installation import Installation

pytestmark = pytest.mark.slow

LEFT = SESSIONS[140]
FEATURES, LABELS, MODELS, THRESHOLD = (
    f'key:"{name}"+ and {VERSION}' for name in ("features", "labels", "classifier", "threshold")
)
SETS = f'(key:"train_set" or key:"validation_set" or key:"test_set")+ and {VERSION}'


def execute(installation: Installation, selection: str, **platform: str) -> dg.ExecuteInProcessResult:
    return installation.execute(selection, platform=platform, experiment=EXPERIMENT)


@pytest.fixture(scope="module")
def honest(postgres: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The market, trained with nothing planted."""
    path = tmp_path_factory.mktemp("market") / "bars.parquet"
    market().write_parquet(path)
    with installation_on(postgres) as installation:
        assert installation.run("db", "upgrade").code == 0
        result = execute(installation, VERSION, provider="files", provider_path=str(path))
        assert result.success
        assert failed_in(result) == set()
        assert len(installation.active()) == 1
        yield installation


@pytest.fixture
def copied(postgres: sa.Engine, honest: Installation) -> Iterator[Installation]:
    """A copy of the trained installation; the test's own."""
    template = sa.make_url(honest.database_url or "").database
    assert template is not None
    with installation_on(postgres, template) as installation:
        shutil.copytree(honest.home, installation.home, dirs_exist_ok=True)
        yield installation


def compute_anew(installation: Installation) -> None:
    """Let the features forget what they were computed from, so that all are due."""
    run(installation.database(), "DELETE FROM feature_state")


# What is planted. Each function takes the place of the one that an asset calls.


def one_bar_ahead(bars: pl.DataFrame) -> pl.DataFrame:
    ahead = pl.col("ret_1d").shift(-1).over("symbol")
    return compute_features(bars).with_columns(ret_1d=ahead)


def forward_return_for_momentum(bars: pl.DataFrame) -> pl.DataFrame:
    ahead = (pl.col("close").shift(-HORIZON) / pl.col("close") - 1).over("symbol")
    return compute_features(bars).with_columns(momentum_5d=bars.select(ahead).to_series())


def scaled_by_the_whole_history(bars: pl.DataFrame) -> pl.DataFrame:
    score = (pl.col("ret_5d") - pl.col("ret_5d").mean()) / pl.col("ret_5d").std()
    return compute_features(bars).with_columns(ret_5d=score.over("symbol"))


def filled_backward(bars: pl.DataFrame) -> pl.DataFrame:
    return compute_features(bars).with_columns(pl.col("ret_20d").backward_fill().over("symbol"))


def gaps_filled_backward(bars: pl.DataFrame) -> pl.DataFrame:
    """Give every weekday between a symbol's first and last bar the bar that follows it."""
    days = bars.group_by("symbol").agg(
        session=pl.date_ranges(pl.col("session").min(), pl.col("session").max()).first()
    )
    every = days.explode("session").filter(pl.col("session").dt.weekday() <= 5).sort("symbol", "session")
    filled = every.join(bars, on=["symbol", "session"], how="left", maintain_order="left")
    return compute_features(filled.with_columns(pl.exclude("symbol", "session").backward_fill().over("symbol")))


def shifted_across_instruments(bars: pl.DataFrame) -> pl.DataFrame:
    before = bars["close"] / bars["close"].shift(1) - 1
    return compute_features(bars).with_columns(ret_1d=before)


def future_of_the_index(bars: pl.DataFrame) -> pl.DataFrame:
    ahead = (pl.col("close").shift(-HORIZON) / pl.col("close") - 1).over("symbol")
    index = bars.with_columns(ahead=ahead).select(pl.col("ahead").mean().over("session")).to_series()
    return compute_features(bars).with_columns(momentum_5d=index)


def level_of_the_price(bars: pl.DataFrame) -> pl.DataFrame:
    return compute_features(bars).with_columns(ret_5d=bars["close"])


def dollar_volume(bars: pl.DataFrame) -> pl.DataFrame:
    return compute_features(bars).with_columns(volume_zscore=bars["close"] * bars["volume"])


def level_of_an_average(bars: pl.DataFrame) -> pl.DataFrame:
    average = bars.select(pl.col("close").rolling_mean(20).over("symbol")).to_series()
    return compute_features(bars).with_columns(ret_20d=average)


FOLLOWS_LEVELS = {"inputs_do_not_depend_on_price_level"}


@pytest.mark.parametrize(
    ("leaking", "stopped_by"),
    [
        (level_of_the_price, FOLLOWS_LEVELS),
        (dollar_volume, FOLLOWS_LEVELS),
        (level_of_an_average, FOLLOWS_LEVELS),
        (one_bar_ahead, {"the_future_is_not_read"}),
        (forward_return_for_momentum, {"the_future_is_not_read"}),
        (scaled_by_the_whole_history, {"the_future_is_not_read"}),
        (filled_backward, {"the_future_is_not_read"}),
        (gaps_filled_backward, {"the_future_is_not_read"}),
        # What stands before a symbol's first bar is the last bar of another: its future, and another instrument.
        (
            shifted_across_instruments,
            {"the_future_is_not_read", "instruments_do_not_touch", "features_follow_from_their_own_bars"},
        ),
        (
            future_of_the_index,
            {"the_future_is_not_read", "instruments_do_not_touch", "features_follow_from_their_own_bars"},
        ),
    ],
)
def test_a_leak_in_the_features(
    copied: Installation,
    monkeypatch: pytest.MonkeyPatch,
    leaking: Callable[[pl.DataFrame], pl.DataFrame],
    stopped_by: set[str],
) -> None:
    for module in (features_update, features_asset):
        monkeypatch.setattr(module, "compute_features", leaking)
    compute_anew(copied)
    require_stopped(copied, FEATURES, stopped_by)


def require_stopped(installation: Installation, selection: str, stopped_by: set[str]) -> None:
    """Run a selection: exactly these checks fail, and the versions stay as they were."""
    before = installation.versions()
    result = execute(installation, selection)
    assert failed_in(result) == stopped_by
    assert not result.success
    assert installation.versions() == before
    installation.verify()


@dataclass(frozen=True)
class Panel:
    """A stored asset, to be changed behind the platform's back."""

    installation: Installation
    asset: str

    @property
    def path(self) -> Path:
        return self.installation.artifacts / "assets" / f"{self.asset}.parquet"

    def read(self) -> pl.DataFrame:
        return pl.read_parquet(self.path)

    def write(self, panel: pl.DataFrame) -> None:
        overwrite_panel(self.installation, self.asset, panel, EXPERIMENT)


# The table of features, written by another hand after the checks had looked at it.

LATER = """
    UPDATE features f SET {column} = l.value FROM (
        SELECT instrument_id, ts, {value} AS value FROM (
            SELECT instrument_id, ts,
                   lead(c, {ahead}) OVER (PARTITION BY instrument_id ORDER BY ts) / c - 1 AS gain FROM price_bars
        ) b) l
    WHERE l.instrument_id = f.instrument_id AND l.ts = f.ts AND l.value IS NOT NULL
"""
NOISED = "gain * (1 + 0.1 * sin(1000 * gain))"
OF_THE_INDEX = "avg(gain) OVER (PARTITION BY ts)"


def test_a_stored_feature_that_its_bars_do_not_give(copied: Installation) -> None:
    run(copied.database(), LATER.format(column="ret_1d", value="gain", ahead=1))
    before = copied.versions()
    looked = copied.execute(dg.AssetSelection.checks_for_assets(dg.AssetKey("features")), experiment=EXPERIMENT)
    assert failed_in(looked) == {"features_follow_from_their_own_bars"}
    # And that is remembered by whoever comes later.
    later = execute(copied, 'key:"model_version"')
    refusal = failure_of(later, "model_version")
    assert "features_follow_from_their_own_bars" in refusal
    assert "failed in run" in refusal
    assert copied.versions() == before


@pytest.mark.parametrize("value", ["gain", NOISED, OF_THE_INDEX])
def test_the_forward_return_among_the_stored_features(copied: Installation, value: str) -> None:
    run(copied.database(), LATER.format(column="momentum_5d", value=value, ahead=HORIZON))
    require_stopped(copied, LABELS, {"no_feature_knows_the_label"})


# Labels.


def shifted_labels(closes: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """Shift without asking where one instrument ends and the next begins."""
    return closes.with_columns(
        close_ahead=pl.col("close").shift(-horizon), label_end=pl.col("session").shift(-horizon)
    )


def backward_returns(closes: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """The price a horizon ago, where the one a horizon ahead belongs."""
    behind = pl.col("close").shift(horizon).over("symbol")
    honest = _outcomes(closes, horizon)
    return honest.with_columns(close_ahead=pl.when(pl.col("label_end").is_not_null()).then(behind.fill_null(1.0)))


def one_session_further(closes: pl.DataFrame, horizon: int) -> pl.DataFrame:
    return _outcomes(closes, horizon + 1)


def one_session_short(closes: pl.DataFrame, horizon: int) -> pl.DataFrame:
    return _outcomes(closes, horizon - 1)


def dated_backward(closes: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """Both the price and its session from a horizon ago."""
    return closes.with_columns(
        close_ahead=pl.col("close").shift(horizon).over("symbol"),
        label_end=pl.col("session").shift(horizon).over("symbol"),
    )


def carried_past_the_end(closes: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """Give every symbol a bar at every session, the last price where it has none."""
    every = closes.select("symbol").unique().join(closes.select("session").unique(), how="cross")
    filled = every.join(closes, on=["symbol", "session"], how="left").sort("symbol", "session")
    carried = filled.with_columns(pl.col("close", "exchange").forward_fill().over("symbol"))
    return _outcomes(carried.drop_nulls("close"), horizon)


_outcomes = labels_core._outcomes  # noqa: SLF001 (the place where the fault is planted)


@pytest.mark.parametrize(
    ("leaking", "stopped_by"),
    [
        (
            shifted_labels,
            {
                "labels_follow_their_own_instrument",
                "labels_end_a_horizon_later",
                "labels_end_after_their_session",
            },
        ),
        (backward_returns, {"labels_follow_their_own_instrument"}),
        (
            dated_backward,
            {
                "labels_follow_their_own_instrument",
                "labels_end_a_horizon_later",
                "labels_end_after_their_session",
            },
        ),
        (one_session_further, {"labels_follow_their_own_instrument", "labels_end_a_horizon_later"}),
        (one_session_short, {"labels_follow_their_own_instrument", "labels_end_a_horizon_later"}),
        (
            carried_past_the_end,
            {
                "labels_follow_their_own_instrument",
                "labels_end_a_horizon_later",
                "no_label_outlives_its_instrument",
            },
        ),
    ],
)
def test_a_leak_in_the_labels(
    copied: Installation,
    monkeypatch: pytest.MonkeyPatch,
    leaking: Callable[[pl.DataFrame, int], pl.DataFrame],
    stopped_by: set[str],
) -> None:
    monkeypatch.setattr(labels_core, "_outcomes", leaking)
    require_stopped(copied, LABELS, stopped_by)


def test_features_scaled_by_the_whole_panel_beside_the_labels(
    copied: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scaled(features: pl.DataFrame, closes: pl.DataFrame, experiment: Experiment) -> pl.DataFrame:
        names = ["ret_1d", "ret_5d", "vol_20d"]
        labelled = label_panel(features, closes, experiment)
        return labelled.with_columns((pl.col(names) - pl.col(names).mean()) / pl.col(names).std())

    monkeypatch.setattr(labels_asset, "label_panel", scaled)
    require_stopped(copied, LABELS, {"labels_carry_the_stored_features"})


def test_the_range_in_units_of_price_in_the_place_of_its_share_beside_the_labels(
    copied: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_units(features: pl.DataFrame, closes: pl.DataFrame, experiment: Experiment) -> pl.DataFrame:
        return label_panel(features, closes, experiment).with_columns(pl.col("natr_14") * pl.col("close"))

    monkeypatch.setattr(labels_asset, "label_panel", in_units)
    require_stopped(copied, LABELS, {"labels_carry_the_stored_features"})


# Members: AAA and BBB left the universe, CCC and DDD came for them; the others always belonged.


def know_members(installation: Installation, tmp_path: Path) -> None:
    first = SESSIONS[0]
    lines = ["symbol,member_from,member_until"]
    lines += [f"{symbol},{first},{LEFT}" for symbol in ("AAA", "BBB")]
    lines += [f"{symbol},{LEFT}," for symbol in ("CCC", "DDD")]
    lines += [f"{symbol},{first}," for symbol in ("EEE", "FFF", "GONE", "HOLE")]
    (tmp_path / "members.csv").write_text("\n".join(lines))
    ended = installation.run("universe", "members", "import", str(tmp_path / "members.csv"))
    assert ended.code == 0, ended.said


def test_members_of_the_time_and_no_others_are_learned_from(copied: Installation, tmp_path: Path) -> None:
    # FFF is what the others are compared with: a member that is not learned from, and not missed.
    know_members(copied, tmp_path)
    result = copied.execute(LABELS, experiment={**EXPERIMENT, "benchmark": "FFF"})
    assert result.success
    assert failed_in(result) == set()
    labelled = Panel(copied, "labels").read()
    spans = {
        symbol: (first, last)
        for symbol, first, last in labelled.group_by("symbol")
        .agg(first=pl.col("session").min(), last=pl.col("session").max())
        .iter_rows()
    }
    assert spans["AAA"] == (SESSIONS[0], SESSIONS[139])
    assert spans["CCC"] == (SESSIONS[140], SESSIONS[-1])
    assert set(spans) == set(SYMBOLS) - {"FFF"}


def test_todays_universe_for_the_past(
    copied: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def of_today(panel: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
        today = members.filter(pl.col("member_until").is_null())["symbol"]
        return panel.filter(pl.col("symbol").is_in(today.implode()))

    know_members(copied, tmp_path)
    monkeypatch.setattr(labels_asset, "within_membership", of_today)
    require_stopped(copied, LABELS, {"only_members_of_the_time"})


def test_members_who_left_are_forgotten(
    copied: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def survivors(panel: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
        # Nobody is there before joining; whoever has left was never there.
        joined = panel.join(members.filter(pl.col("member_until").is_null()), on="symbol", maintain_order="left")
        return joined.filter(pl.col("session") >= pl.col("member_from")).select(panel.columns)

    know_members(copied, tmp_path)
    monkeypatch.setattr(labels_asset, "within_membership", survivors)
    require_stopped(copied, LABELS, {"only_members_of_the_time"})


# Sets.


def parts_of(labels: pl.DataFrame, experiment: Experiment) -> tuple[pl.DataFrame, date, date]:
    """Labelled rows, and the first sessions of the validation and the test set."""
    split = split_panel(labels, experiment)
    rows = labels.drop_nulls(["label", "ret_20d", "vol_20d"])
    return rows, split.validation["session"].min(), split.test["session"].min()  # type: ignore[return-value]


def unpurged_before_validation(labels: pl.DataFrame, experiment: Experiment) -> Split:
    rows, validation_at, _ = parts_of(labels, experiment)
    honest = split_panel(labels, experiment)
    return Split(rows.filter(pl.col("session") < validation_at), honest.validation, honest.test, 0)


def unpurged_before_test(labels: pl.DataFrame, experiment: Experiment) -> Split:
    rows, validation_at, test_at = parts_of(labels, experiment)
    between = (pl.col("session") >= validation_at) & (pl.col("session") < test_at)
    honest = split_panel(labels, experiment)
    return Split(honest.train, rows.filter(between), honest.test, 0)


def dated_to_look_purged(labels: pl.DataFrame, experiment: Experiment) -> Split:
    """No purge, and each label's end set to before the boundary, so that nobody sees."""
    _, validation_at, _ = parts_of(labels, experiment)
    split = unpurged_before_validation(labels, experiment)
    eve = pl.lit(validation_at - timedelta(days=1))
    train = split.train.with_columns(label_end=pl.min_horizontal("label_end", eve))
    return Split(train, split.validation, split.test, 0)


def straddling(labels: pl.DataFrame, experiment: Experiment) -> Split:
    """Cut by rows, not by sessions: a session's first symbols in one set, the others in the next."""
    honest = split_panel(labels, experiment)
    first = honest.test["session"].min()
    early = (pl.col("session") == first) & (pl.col("symbol") < "DDD")
    # Its labels are taken away from it, so that only the session itself gives it away.
    moved = honest.test.filter(early).with_columns(label_end=pl.lit(first - timedelta(days=1)))  # type: ignore[operator]
    validation = pl.concat([honest.validation, moved]).sort("symbol", "session")
    return Split(honest.train, validation, honest.test.filter(~early), 0)


def shuffled(labels: pl.DataFrame, experiment: Experiment) -> Split:
    rows, _, _ = parts_of(labels, experiment)
    drawn = pl.Series(np.random.default_rng(3).random(rows.height))
    return Split(rows.filter(drawn < 0.7), rows.filter(drawn.is_between(0.7, 0.85)), rows.filter(drawn > 0.85), 0)


def labels_among_the_features(labels: pl.DataFrame, experiment: Experiment) -> Split:
    honest = split_panel(labels, experiment)
    known = [panel.with_columns(momentum_5d="forward_return") for panel in honest.sets().values()]
    return Split(*known, purged=honest.purged)


@pytest.mark.parametrize(
    ("leaking", "stopped_by"),
    [
        (unpurged_before_validation, {"sets_do_not_touch"}),
        (unpurged_before_test, {"sets_do_not_touch"}),
        (dated_to_look_purged, {"sets_are_rows_of_the_labels"}),
        (straddling, {"sets_do_not_touch", "sets_are_rows_of_the_labels"}),
        (shuffled, {"sets_do_not_touch"}),
        (labels_among_the_features, {"sets_are_rows_of_the_labels", "no_feature_knows_the_label"}),
    ],
)
def test_a_leak_in_the_sets(
    copied: Installation,
    monkeypatch: pytest.MonkeyPatch,
    leaking: Callable[[pl.DataFrame, Experiment], Split],
    stopped_by: set[str],
) -> None:
    monkeypatch.setattr(splits_asset, "split_panel", leaking)
    require_stopped(copied, SETS, stopped_by)


# Models and what is chosen after them.


def test_a_model_trained_on_test_rows(copied: Installation) -> None:
    train, test = Panel(copied, "train_set"), Panel(copied, "test_set")
    train.write(pl.concat([train.read(), test.read()]).sort("symbol", "session"))
    require_stopped(copied, MODELS, {"predictions_are_out_of_sample"})


def test_a_threshold_chosen_on_the_test_set(copied: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_test_rows(predictions: pl.DataFrame, experiment: Experiment) -> Threshold:
        names = predictions.schema["set"]
        read = set_of(predictions, "test").with_columns(set=pl.lit("validation").cast(names))
        return threshold_of(read, experiment)

    monkeypatch.setattr(predictions_asset, "threshold_of", on_test_rows)
    require_stopped(copied, THRESHOLD, {"the_test_set_is_not_read"})
