"""Recommendations from a database to committed rows: what is served, what is left out, what stops everything."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import lightgbm
import numpy as np
import polars as pl
import pytest

from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES, Profiles
from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.errors import (
    MissingArtifactError,
    ModelMismatchError,
    NotEnoughHistoryError,
    RowsBreakRuleError,
    TamperedArtifactError,
)
from boursomatic_assets.services.features import update_features
from boursomatic_assets.services.recommending.recommend import open_serving, require_active
from boursomatic_assets.storage.postgres.adjustments_table import add_adjustment
from boursomatic_assets.storage.postgres.candidates import read_bar_provenance, read_candidates
from boursomatic_assets.storage.postgres.features_table import read_features, read_inputs
from boursomatic_assets.storage.postgres.market_tables import read_bars, write_bars
from boursomatic_assets.storage.postgres.membership_table import replace_members
from boursomatic_assets.storage.postgres.model_table import active_version
from boursomatic_assets.storage.postgres.stored_recommendations import find_recommendation
from boursomatic_assets_tests.support.catalog import run
from boursomatic_assets_tests.support.panels import accepted
from boursomatic_assets_tests.support.recommendable import (
    EAGER,
    RUN,
    TAU,
    TEMPERATURE,
    active_rows,
    fill,
    next_session,
    record,
    stored_rows,
    train,
    update,
)

if TYPE_CHECKING:
    from boursomatic_assets.core.models.training import FittedModel
    from boursomatic_assets.storage.postgres.database import Database

SYMBOLS = 12
NAMES = [f"W{number:03d}" for number in range(SYMBOLS)]
# Eighty weekdays from Monday 2018-01-01 are sixteen weeks: the last is the sixteenth Friday, 15 * 7 + 4 days on.
LAST = date(2018, 4, 20)


@pytest.fixture
def bars(database: Database) -> pl.DataFrame:
    return fill(database, SYMBOLS)


@pytest.fixture
def models(database: Database, bars: pl.DataFrame) -> tuple[FittedModel, FittedModel]:
    assert bars.height
    return train(database)


@pytest.fixture
def ready(database: Database, models: tuple[FittedModel, FittedModel], tmp_path: Path) -> Database:
    """Twelve instruments with features, and an active model."""
    record(database, tmp_path / "artifacts", models)
    return database


def left_out(database: Database) -> dict[str, str]:
    return dict(update(database).excluded.iter_rows())


def test_update_recommendations_writes_a_row_per_instrument_and_profile(ready: Database) -> None:
    made = update(ready)
    assert (made.written.added, made.written.archived, made.written.unchanged) == (3 * SYMBOLS, 0, 0)
    assert made.excluded.is_empty()
    rows = active_rows(ready)
    found = rows.select("symbol", "profile").sort("symbol", "profile").rows()
    assert found == sorted((symbol, profile) for symbol in NAMES for profile in PROFILE_NAMES)
    assert set(rows["session"]) == {LAST}
    assert set(rows["version"]) == {made.version}
    # Profiles that are easily met: each kind of call is among them.
    assert set(rows["label"]) == set(CLASS_NAMES)


def test_update_recommendations_equals_the_models_read_by_hand(ready: Database) -> None:
    update(ready)
    active = active_version(ready)
    assert active is not None
    folder = Path(active.model_path)
    names = json.loads((folder / "manifest.json").read_text())["feature_names"]
    texts = [(folder / f"{name}.txt").read_text() for name in ("classifier", "regressor")]
    classifier, regressor = (lightgbm.Booster(model_str=text) for text in texts)
    newest = read_features(ready).filter(pl.col("session") == LAST)
    bars = read_bars(ready, ["close"]).filter(pl.col("session") == LAST)
    closes = dict(bars.select("symbol", "close").iter_rows())
    rows = active_rows(ready)
    for symbol in NAMES:
        features = newest.filter(pl.col("symbol") == symbol).row(0, named=True)
        # not in the table: the average range over the close
        features["natr_14"] = features["atr_14"] / closes[symbol]
        matrix = np.array([[features[name] for name in names]], dtype=np.float32)
        scores = classifier.predict(matrix, raw_score=True)[0]
        # softmax of the trees' scores, then of the logarithms over the temperature
        raw = [math.exp(score) for score in scores]
        raw = [value / sum(raw) for value in raw]
        cooled = [value ** (1 / TEMPERATURE) for value in raw]
        chances = dict(zip(CLASS_NAMES, (value / sum(cooled) for value in cooled), strict=True))
        for name, profile in EAGER.items():
            (row,) = rows.filter((pl.col("symbol") == symbol) & (pl.col("profile") == name)).to_dicts()
            buys = chances["BUY"] >= max(profile.buy_probability, chances["SELL"]) and raw[0] >= TAU
            if buys and features["vol_20d"] <= profile.max_volatility:
                label, side = "BUY", 1
            elif chances["SELL"] >= profile.sell_probability and chances["SELL"] > chances["BUY"]:
                label, side = "SELL", -1
            else:
                label, side = "HOLD", 0
            assert row["label"] == label
            assert row["confidence"] == pytest.approx(chances[label], rel=1e-9)
            assert row["expected_return_pct"] == pytest.approx(100 * regressor.predict(matrix)[0], rel=1e-12)
            if side:
                close, reach = closes[symbol], features["atr_14"]
                assert row["stop_loss"] == pytest.approx(close - side * profile.stop_atr * reach)
                assert row["take_profit"] == pytest.approx(close + side * profile.target_atr * reach)
            else:
                assert (row["stop_loss"], row["take_profit"]) == (None, None)


def test_update_recommendations_twice_adds_nothing(ready: Database) -> None:
    first = update(ready)
    before = stored_rows(ready)
    again = update(ready)
    assert (again.written.added, again.written.archived, again.written.unchanged) == (0, 0, 3 * SYMBOLS)
    assert again.content == first.content
    assert stored_rows(ready) == before


def test_update_recommendations_archives_at_a_new_session(ready: Database, bars: pl.DataFrame) -> None:
    first = update(ready)
    before = {row["id"] for row in active_rows(ready).to_dicts()}
    next_session(ready, bars, lambda price: price * 1.01)
    made = update(ready)
    assert (made.written.added, made.written.archived) == (3 * SYMBOLS, 3 * SYMBOLS)
    assert made.content != first.content
    now = active_rows(ready)
    assert not before & set(now["id"])
    # Friday 2018-04-20, then Monday
    assert set(now["session"]) == {date(2018, 4, 23)}
    assert set(stored_rows(ready)) == before | set(now["id"])


def test_update_recommendations_follows_profiles_and_language(ready: Database) -> None:
    update(ready)
    made = update(ready, profiles=Profiles(), language="fr")
    assert made.written.added == 3 * SYMBOLS
    (row, *_) = find_recommendation(ready, "W000")
    assert row["justification"] == row["snapshot"]["justification"]["fr"] != row["snapshot"]["justification"]["en"]


def test_evidence_names_run_and_bars(ready: Database) -> None:
    update(ready)
    (row, *_) = find_recommendation(ready, "W003")
    assert row["snapshot"]["run"] == RUN
    (inputs,) = ready.read("SELECT inputs FROM feature_state WHERE symbol = 'W003'")["inputs"]
    assert row["snapshot"]["bars"] == {"inputs": inputs, "exchange": "XNYS", "adjustments": []}


def test_bar_provenance_has_adjustments(ready: Database) -> None:
    add_adjustment(ready, "W003", date(2018, 2, 1), 0.5, None)
    assert read_bar_provenance(ready)["W003"]["adjustments"] == [["2018-02-01", 0.5]]


def test_read_candidates_returns_active_instruments_with_their_newest_bar(
    ready: Database, bars: pl.DataFrame
) -> None:
    run(ready, "UPDATE instruments SET is_active = false WHERE symbol = 'W001'")
    last = bars.filter(pl.col("symbol") == "W002").tail(1)
    # New York is closed on Saturday, and nothing was traded: a row that a source filled in.
    write_bars(ready, accepted(last.with_columns(session=pl.lit(date(2018, 4, 21)), volume=0.0)), "simulated")
    found = read_candidates(ready)
    assert found["symbol"].to_list() == [symbol for symbol in NAMES if symbol != "W001"]
    assert set(found["newest_bar"]) == set(found["session"]) == {LAST}
    assert found.filter(pl.col("symbol") == "W002")["close"].item() == last["close"].item()
    assert not found["quarantined"].any()
    assert found["member"].all()


def test_read_candidates_adjusts_the_close(ready: Database, bars: pl.DataFrame) -> None:
    # Entered before its bar has come: prices before Monday are halved.
    add_adjustment(ready, "W004", date(2018, 4, 23), 0.5, None)
    close = read_candidates(ready).filter(pl.col("symbol") == "W004")["close"].item()
    assert close == bars.filter(pl.col("symbol") == "W004")["close"].last() * 0.5


def test_excluded_instruments_are_listed_with_reasons(ready: Database, bars: pl.DataFrame) -> None:
    run(
        ready,
        "INSERT INTO unexplained_jumps (symbol, session, ratio, split_ratio) "
        "VALUES ('W005', '2018-03-01', 0.5, 0.5)",
    )
    members = [{"symbol": symbol, "member_from": date(2018, 1, 1), "member_until": None} for symbol in NAMES]
    members[6]["member_until"] = LAST
    replace_members(ready, pl.DataFrame(members).cast({"member_from": pl.Date, "member_until": pl.Date}))
    # Ten weekdays of two weeks are missing: more than five sessions behind.
    run(
        ready,
        "DELETE FROM price_bars b USING instruments i WHERE i.id = b.instrument_id AND i.symbol = 'W007' "
        "AND b.ts > '2018-04-06'",
    )
    update_features(ready, "1", lambda _: None)
    # 10 sessions are too few for a return over 20.
    few = bars.filter((pl.col("symbol") == "W008") & (pl.col("session") > date(2018, 4, 6)))
    run(ready, "DELETE FROM price_bars b USING instruments i WHERE i.id = b.instrument_id AND i.symbol = 'W008'")
    write_bars(ready, accepted(few), "simulated")
    update_features(ready, "1", lambda _: None)
    found = left_out(ready)
    assert set(found) == {"W005", "W006", "W007", "W008"}
    for symbol, words in {
        "W005": "quarantined",
        "W006": "no member",
        "W007": "10 sessions behind",
        "W008": "too little history",
    }.items():
        assert words in found[symbol]
    assert set(active_rows(ready)["symbol"]) == set(NAMES) - set(found)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_instrument_with_a_non_finite_feature_is_excluded(ready: Database, value: str) -> None:
    update(ready)
    before = {row["id"]: row for row in active_rows(ready).to_dicts() if row["symbol"] == "W002"}
    run(
        ready,
        f"UPDATE features f SET ret_5d = '{value}' FROM instruments i WHERE i.id = f.instrument_id "  # noqa: S608
        f"AND i.symbol = 'W002' AND f.ts = '{LAST}'",
    )
    assert "ret_5d is no finite number" in left_out(ready)["W002"]
    # Its earlier recommendation is unchanged.
    assert {row["id"]: row for row in active_rows(ready).to_dicts() if row["symbol"] == "W002"} == before


def test_instrument_unknown_to_the_model_is_excluded(
    database: Database, models: tuple[FittedModel, FittedModel], tmp_path: Path
) -> None:
    record(database, tmp_path / "artifacts", models, universe=NAMES[:-1])
    assert list(left_out(database)) == [NAMES[-1]]
    assert "does not know it" in left_out(database)[NAMES[-1]]


class Untouched:
    """What was recommended before something went wrong, and that it still is."""

    def __init__(self, database: Database) -> None:
        self.database = database
        update(database)
        self.before = stored_rows(database)
        assert self.before

    def stays(self) -> bool:
        return stored_rows(self.database) == self.before


def test_update_recommendations_requires_an_active_model(ready: Database) -> None:
    recommended = Untouched(ready)
    run(ready, "UPDATE model_versions SET is_active = false")
    with pytest.raises(MissingArtifactError, match=r"no model version is active.*\n.*boursomatic materialize --to"):
        update(ready)
    assert recommended.stays()


def test_update_recommendations_refuses_two_active_models(
    ready: Database, models: tuple[FittedModel, FittedModel], tmp_path: Path
) -> None:
    recommended = Untouched(ready)
    first = require_active(ready).version
    second = record(ready, tmp_path / "artifacts", models).version
    # Another program drops the rule and breaks it.
    run(
        ready,
        "DO $$ DECLARE name text; BEGIN FOR name IN SELECT indexname FROM pg_indexes WHERE tablename = "
        "'model_versions' AND position('WHERE is_active' IN indexdef) > 0 LOOP "
        "EXECUTE 'DROP INDEX ' || name; END LOOP; END $$;"
        "UPDATE model_versions SET is_active = true",
    )
    with pytest.raises(RowsBreakRuleError, match="marks 2") as raised:
        update(ready)
    assert first in str(raised.value)
    assert second in str(raised.value)
    assert recommended.stays()


def test_update_recommendations_refuses_a_model_without_digest(ready: Database) -> None:
    recommended = Untouched(ready)
    run(ready, "UPDATE model_versions SET manifest_sha256 = NULL")
    with pytest.raises(MissingArtifactError, match="its bundle cannot be verified"):
        update(ready)
    assert recommended.stays()


@pytest.mark.parametrize("gone", ["the folder", "manifest.json"])
def test_update_recommendations_names_a_missing_bundle(ready: Database, tmp_path: Path, gone: str) -> None:
    recommended = Untouched(ready)
    active = require_active(ready)
    folder = tmp_path / "artifacts" / "models" / active.version
    (folder if gone == "the folder" else folder / gone).rename(tmp_path / "aside")
    with pytest.raises(MissingArtifactError, match=f"{active.version} is missing.*\n.*train again"):
        update(ready)
    assert recommended.stays()


@pytest.mark.parametrize(
    "name", ["classifier.txt", "regressor.txt", "classifier.pkl", "regressor.pkl", "metrics.json", "manifest.json"]
)
def test_update_recommendations_refuses_an_altered_file(ready: Database, name: str) -> None:
    recommended = Untouched(ready)
    active = require_active(ready)
    path = Path(active.model_path) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    digests = r"expected SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}"
    with pytest.raises(TamperedArtifactError, match=f"{name} .*{digests}"):
        update(ready)
    assert recommended.stays()


@pytest.mark.parametrize("names", ["another order", "one less"])
def test_update_recommendations_refuses_other_features_than_the_manifest(
    ready: Database, models: tuple[FittedModel, FittedModel], tmp_path: Path, names: str
) -> None:
    recommended = Untouched(ready)
    known = models[0].feature_names
    said = (*known[1:], known[0]) if names == "another order" else known[:-1]
    record(ready, tmp_path / "artifacts", tuple(replace(model, feature_names=said) for model in models))  # type: ignore[arg-type]
    with pytest.raises(ModelMismatchError, match="features"):
        update(ready)
    assert recommended.stays()


def test_update_recommendations_names_the_excluded_if_none_is_left(ready: Database) -> None:
    recommended = Untouched(ready)
    run(ready, "DELETE FROM features")
    with pytest.raises(NotEnoughHistoryError, match="none of the 12 active instruments") as raised:
        update(ready)
    assert "W000: it has no features" in str(raised.value)
    assert "and 7 more" in str(raised.value)
    run(ready, "UPDATE instruments SET is_active = false")
    with pytest.raises(NotEnoughHistoryError, match="no instrument is active"):
        update(ready)
    assert recommended.stays()


def test_predictions_of_all_rows_equal_those_one_at_a_time(ready: Database) -> None:
    # The same function, on all rows at once and on one at a time.
    serving = open_serving(require_active(ready))
    made = update(ready)
    panel = read_inputs(ready, serving.classifier.feature_names).filter(pl.col("session") == LAST)
    raw = serving.classifier.predict(panel)
    for place, symbol in enumerate(panel["symbol"]):
        own = made.predictions.filter(pl.col("symbol") == symbol)
        assert own.select("probability_buy", "probability_hold", "probability_sell").row(0) == tuple(raw[place])
