"""The asset `recommendations` on the bundled sample: what it writes and shows, and what its checks find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import lightgbm
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from boursomatic_assets.core.dataset.experiment import PROFILE_NAMES, Profiles
from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.measures.classification import PROBABILITIES
from boursomatic_assets.core.recommendations.calls import recommend
from boursomatic_assets.services.recommending.recommend import open_serving, require_active
from boursomatic_assets.storage.postgres.features_table import read_features
from boursomatic_assets.storage.postgres.market_tables import read_usable_bars
from boursomatic_assets.storage.postgres.stored_recommendations import read_recommendations
from boursomatic_assets_tests.support.catalog import run
from boursomatic_assets_tests.support.installation import checks_of, metadata_of

if TYPE_CHECKING:
    from boursomatic_assets_tests.support.installation import Installation

pytestmark = pytest.mark.slow

SYMBOLS = ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
ASSET = dg.AssetSelection.assets("recommendations")
CHECKS = dg.AssetSelection.checks_for_assets(dg.AssetKey("recommendations"))  # type: ignore[arg-type]
BLOCKING = {
    "rows_follow_from_the_model",
    "every_active_instrument_is_recommended_or_listed",
    "profiles_nest",
    "one_row_is_active_per_instrument_and_profile",
    "probabilities_are_possible",
}

# What another program may do, and the checks that must notice.
ALTERED = {
    "confidence": (
        "UPDATE recommendations SET confidence = confidence - 1e-12 WHERE is_active",
        {"rows_follow_from_the_model", "probabilities_are_possible"},
    ),
    "forecast": (
        "UPDATE recommendations SET expected_return_pct = expected_return_pct + 1e-9 WHERE is_active",
        {"rows_follow_from_the_model"},
    ),
    "nesting": (
        # What the cautious buy, the bold must buy too.
        "UPDATE recommendations SET label = CASE profile WHEN 'conservative' THEN 'BUY' ELSE 'HOLD' END",
        {"profiles_nest", "rows_follow_from_the_model", "probabilities_are_possible"},
    ),
    "a new instrument": (
        """
        INSERT INTO instruments (id, symbol, exchange, is_active, created_at, updated_at)
        VALUES (gen_random_uuid(), 'NEW', 'XNYS', true, now(), now())
        """,
        {"every_active_instrument_is_recommended_or_listed"},
    ),
    "a second row": (
        """
        DO $$ DECLARE name text; BEGIN
            FOR name IN SELECT indexname FROM pg_indexes WHERE tablename = 'recommendations'
                AND position('UNIQUE' IN indexdef) > 0 AND position('WHERE is_active' IN indexdef) > 0
            LOOP EXECUTE 'DROP INDEX ' || quote_ident(name); END LOOP;
        END $$;
        INSERT INTO recommendations (id, instrument_id, model_version_id, profile, label, confidence,
            features_snapshot, generated_at, is_active)
        SELECT gen_random_uuid(), instrument_id, (SELECT id FROM model_versions WHERE NOT is_active), profile,
            label, confidence, '{}', now(), true
        FROM recommendations LIMIT 1
        """,
        {"one_row_is_active_per_instrument_and_profile"},
    ),
}


@pytest.fixture
def recommended(trained: Installation) -> Installation:
    """The sample with its recommendations."""
    result = trained.execute(ASSET)
    assert result.success
    return trained


def failed(installation: Installation) -> set[str]:
    """Checks that do not hold."""
    result = installation.execute(CHECKS)
    return {name for name, check in checks_of(result).items() if not check.passed}


def test_every_instrument_and_profile_is_recommended_without_training_anything(trained: Installation) -> None:
    before, files = trained.tables(), trained.files()
    result = trained.execute(ASSET)
    assert result.success
    checks = checks_of(result)
    assert set(checks) == {*BLOCKING, "few_instruments_are_left_out"}
    assert all(check.passed for check in checks.values())
    assert {name for name, check in checks.items() if check.blocking} == BLOCKING

    rows = read_recommendations(trained.database())
    wanted = [(symbol, profile) for symbol in SYMBOLS for profile in PROFILE_NAMES]
    assert sorted(rows.select("symbol", "profile").rows()) == sorted(wanted)
    assert rows["is_of_active_model"].all()
    after = trained.tables()
    assert {name for name in before if after[name] != before[name]} <= {"recommendations"}
    assert {name for name in trained.files() if name not in files} == {
        Path(metadata_of(result, "recommendations")["trace"]).relative_to(trained.artifacts).as_posix()
    }


def test_metadata_says_what_was_recommended_with_a_page_that_leads_back_to_the_bars(trained: Installation) -> None:
    result = trained.execute(ASSET)
    shown = metadata_of(result, "recommendations")
    rows = read_recommendations(trained.database())
    for profile in PROFILE_NAMES:
        for label in CLASS_NAMES:
            count = rows.filter((pl.col("profile") == profile) & (pl.col("label") == label)).height
            assert shown[f"{profile}_{label.lower()}"] == count
    assert shown["version"] == trained.active()[0]
    assert (shown["first_session"], shown["last_session"]) == ("2013-03-01", "2013-03-01")
    assert (shown["rows_added"], shown["rows_archived"], shown["rows_unchanged"]) == (15, 0, 0)
    assert (shown["excluded"], shown["excluded_share"]) == ({}, 0.0)
    for name in ("label_mix", "where_each_profile_buys"):
        assert shown[name].count("data:image/png;base64,") == 1
    assert "| conservative |" in shown["calls_by_profile"]
    described = {column.name: column.description for column in shown["dagster/column_schema"].columns}
    assert all(described.values())
    lineage = shown["dagster/column_lineage"].deps_by_column
    # Of which profile, and how far ahead, the experiment says.
    assert set(described) - set(lineage) == {"profile", "horizon_days"}
    assert "justification" in shown["preview"]
    assert shown["trace_matches"] is True
    page = Path(shown["trace"]).read_text()
    assert Path(shown["trace"]).stem in set(rows["id"])
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert shown["open_trace"] == Path(shown["trace"]).as_uri()


def test_running_again_adds_nothing_and_has_the_same_data_version(recommended: Installation) -> None:
    before = recommended.ask("SELECT id::text, xmin::text FROM recommendations ORDER BY 1")
    first, again = recommended.execute(ASSET), recommended.execute(ASSET)
    assert metadata_of(again, "recommendations")["rows_unchanged"] == 15
    assert recommended.ask("SELECT id::text, xmin::text FROM recommendations ORDER BY 1") == before
    versions = [
        event.materialization.tags["dagster/data_version"]
        for result in (first, again)
        for event in result.all_events
        if event.is_step_materialization
    ]
    assert len(set(versions)) == 1


def test_five_rows_are_what_the_models_text_says_when_it_is_read_by_hand(recommended: Installation) -> None:
    (row,) = [row for row in recommended.versions() if row.is_active]
    folder = Path(row.model_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    classifier, regressor = (
        lightgbm.Booster(model_str=(folder / f"{name}.txt").read_text()) for name in ("classifier", "regressor")
    )
    newest = read_features(recommended.database()).group_by("symbol", maintain_order=True).last()
    closes = read_usable_bars(recommended.database(), ["close"])
    placed = newest.join(closes, on=["symbol", "session"], maintain_order="left")
    matrix = (
        placed.with_columns(natr_14=pl.col("atr_14") / pl.col("close"))
        .select(manifest["feature_names"])
        .to_numpy()
        .astype(np.float32)
    )
    # softmax of scores over the temperature: the constant by which scores differ from logarithms falls out
    scores = classifier.predict(matrix, raw_score=True) / manifest["threshold"]["temperature"]
    powers = np.exp(scores)
    chances = powers / powers.sum(axis=1, keepdims=True)
    forecasts = regressor.predict(matrix)
    rows = read_recommendations(recommended.database(), profile="moderate").sort("symbol")
    assert rows["symbol"].to_list() == newest["symbol"].to_list() == SYMBOLS
    for place, row in enumerate(rows.to_dicts()):
        assert row["confidence"] == pytest.approx(chances[place][CLASS_NAMES.index(row["label"])], rel=1e-9)
        assert row["expected_return_pct"] == pytest.approx(100 * forecasts[place], rel=1e-12)


def test_any_session_of_the_past_is_served_to_the_last_bit_as_the_backtest_predicted_it(
    trained: Installation,
) -> None:
    database = trained.database()
    backtest = pl.read_parquet(trained.artifacts / "assets/predictions.parquet")
    assert backtest.height > 1000
    closes = read_usable_bars(database, ["close"])
    past = (
        read_features(database)
        .join(closes, on=["symbol", "session"])
        .join(backtest, on=["symbol", "session"], how="semi")
    )
    served = recommend(past, open_serving(require_active(database)), Profiles()).predictions
    columns = ["symbol", "session", *PROBABILITIES, "predicted_return"]
    assert_frame_equal(served.select(columns), backtest.select(columns), check_exact=True)


@pytest.mark.parametrize("what", ALTERED)
def test_checks_find_what_somebody_has_altered(recommended: Installation, what: str) -> None:
    statement, found = ALTERED[what]
    run(
        recommended.database(),
        "INSERT INTO model_versions (id, version, trained_at, params_hash, metrics_json, is_active, created_at) "
        "VALUES (gen_random_uuid(), 'another', '2000-01-01', 'x', '{}', false, now())",
    )
    assert failed(recommended) == set()
    run(recommended.database(), statement)
    assert failed(recommended) == found


def test_an_instrument_that_is_left_out_is_listed_and_many_of_them_are_a_warning(trained: Installation) -> None:
    # One of five is more than a tenth.
    run(
        trained.database(),
        "INSERT INTO unexplained_jumps (symbol, session, ratio, split_ratio) "
        "VALUES ('IBM', '2012-03-01', 0.5, 0.5)",
    )
    result = trained.execute(ASSET)
    assert result.success
    shown = metadata_of(result, "recommendations")
    assert list(shown["excluded"]) == ["IBM"]
    assert "quarantined" in shown["excluded"]["IBM"]
    assert (shown["instruments"], shown["excluded_instruments"], shown["excluded_share"]) == (4, 1, 0.2)
    checks = checks_of(result)
    assert not checks["few_instruments_are_left_out"].passed
    assert checks["few_instruments_are_left_out"].severity is dg.AssetCheckSeverity.WARN
    assert all(check.passed for name, check in checks.items() if name in BLOCKING)


def test_without_an_active_model_the_run_fails_with_one_message_and_what_was_stays(
    recommended: Installation,
) -> None:
    before = recommended.tables()["recommendations"]
    run(recommended.database(), "UPDATE model_versions SET is_active = false")
    ended = recommended.run("recommend")
    assert ended.code == 1
    assert "no model version is active" in ended.errors
    assert "boursomatic materialize --to model_version" in ended.errors
    assert "Traceback" not in ended.said
    assert recommended.tables()["recommendations"] == before
