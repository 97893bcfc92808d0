"""What may be served: a model whose boosters match its manifest, and the rows that it can judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.dataset.features import FEATURE_NAMES, FEATURES, is_warmed_up, table_columns
from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.market.calendars import FIRST_SESSION, calendar_column, sessions_between
from boursomatic_assets.core.registry.bundle import MANIFEST, Bundle, sha256
from boursomatic_assets.errors import ModelMismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from boursomatic_assets.core.dataset.experiment import Experiment
    from boursomatic_assets.core.models.training import FittedModel
    from boursomatic_assets.core.registry.manifest import Manifest

# What a recommendation is judged and priced by, whether or not the model reads it.
PRICED_BY = ("vol_20d", "atr_14")
STALE_SESSIONS = 5
STALE_DAYS = 7
# A range of less than a millionth of the price leaves no room for a stop.
NO_RANGE = 1e-6
# Reasons for which instruments are left out on purpose.
IS_BENCHMARK = "it is the benchmark that others are compared with"
IS_NO_MEMBER = "it is no member of the universe now"
CANDIDATE_SCHEMA: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "exchange": pl.String(),
    "newest_bar": pl.Date(),
    "session": pl.Date(),
    "close": pl.Float64(),
    **dict.fromkeys(FEATURE_NAMES, pl.Float64()),
    "quarantined": pl.Boolean(),
    "member": pl.Boolean(),
}


@dataclass(frozen=True)
class Serving:
    """A model version as it is served.

    `tau` is the least raw p(BUY) of a BUY call, None without threshold. `temperature` calibrates the probabilities
    that people are shown. `universe` holds the symbols of the training panel, None where the bundle does not say.
    `digests` are the SHA-256 of the manifest and of both models' texts.
    """

    version: str
    classifier: FittedModel
    regressor: FittedModel
    experiment: Experiment
    tau: float | None
    temperature: float
    universe: frozenset[str] | None
    digests: dict[str, str]

    @classmethod
    def of(cls, bundle: Bundle) -> Serving:
        """Prepare a verified bundle for serving.

        Raises
        ------
        ModelMismatchError
            If features, their order or the classes differ between manifest, experiment and boosters.
        ConfigurationError
            If the manifest's experiment cannot be used.
        """
        manifest, experiment = bundle.manifest, bundle.experiment
        _require_equal(manifest, "its experiment", experiment.features, manifest.feature_names, "features")
        _require_equal(manifest, "this program", CLASS_NAMES, manifest.class_names, "classes")
        models = {"classifier": bundle.classifier(), "regressor": bundle.regressor()}
        for (name, model), outputs in zip(models.items(), (len(CLASS_NAMES), 1), strict=True):
            _require_booster(manifest, name, model, outputs)
        return cls(
            version=str(manifest.version),
            **models,
            experiment=experiment,
            tau=manifest.threshold.tau,
            temperature=manifest.threshold.temperature,
            universe=None if manifest.universe is None else frozenset(manifest.universe),
            digests={
                "manifest_sha256": sha256(bundle.files[MANIFEST]),
                **{f"{name}_sha256": sha256(bundle.files[f"{name}.txt"]) for name in models},
            },
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Inputs of the models in their order, then the features that calls are limited and priced by."""
        features = self.classifier.feature_names
        return (*features, *(name for name in PRICED_BY if name not in features))


def servable_rows(candidates: pl.DataFrame, serving: Serving) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split candidates into rows that the model can judge and rows that are left out.

    Parameters
    ----------
    candidates : DataFrame
        A row per active instrument, of `CANDIDATE_SCHEMA`: `newest_bar`; the newest `session` with features, its
        close and features (null where absent); `quarantined`; `member` of the universe now (true where memberships
        are unknown).

    Returns
    -------
    tuple of (DataFrame, DataFrame)
        Rows to recommend on; and `symbol`, `reason` (the first that applies) of the others. Both by symbol.
    """
    columns, close = table_columns(serving.columns), pl.col("close")
    is_price = (close.is_finite() & (close > 0)).fill_null(value=False)
    shown_close = close.cast(pl.String).fill_null("none")
    judged = _with_days_behind(candidates).with_columns(
        reason=pl.coalesce(
            *_reasons_of_the_instrument(serving),
            *_reasons_of_the_features(columns),
            _when(~is_price, pl.format("its close of {} is no price: {}", "session", shown_close)),
            _when(
                pl.col("atr_14") <= NO_RANGE * close,
                pl.format("its price does not move (atr_14 is {}), so that no stop fits", "atr_14"),
            ),
        )
    )
    by_symbol = judged.sort("symbol")
    rows = by_symbol.filter(pl.col("reason").is_null())
    return (
        rows.select("symbol", "exchange", "session", "close", *FEATURE_NAMES),
        by_symbol.filter(pl.col("reason").is_not_null()).select("symbol", "reason"),
    )


def share_left_out(recommended: int, excluded: Mapping[str, str]) -> float:
    """Share of instruments without recommendation, not counting benchmark and non-members."""
    missed = sum(reason not in {IS_BENCHMARK, IS_NO_MEMBER} for reason in excluded.values())
    return missed / (recommended + missed) if missed else 0.0


def _when(applies: pl.Expr, reason: pl.Expr | str) -> pl.Expr:
    return pl.when(applies).then(pl.lit(reason) if isinstance(reason, str) else reason)


def _reasons_of_the_instrument(serving: Serving) -> list[pl.Expr]:
    symbol = pl.col("symbol")
    known = pl.lit(value=True) if serving.universe is None else symbol.is_in(sorted(serving.universe))
    return [
        _when(
            pl.col("quarantined"),
            "quarantined: a jump in its price is not explained (boursomatic adjustments list)",
        ),
        _when(pl.col("newest_bar").is_null(), "it has no bars"),
        _when(symbol.eq_missing(pl.lit(serving.experiment.benchmark, pl.String)), IS_BENCHMARK),
        _when(~known, f"the model does not know it: no row of it was in the panel of {serving.version}"),
        _when(~pl.col("member"), IS_NO_MEMBER),
    ]


def _reasons_of_the_features(columns: Sequence[str]) -> list[pl.Expr]:
    session, newest_bar = pl.col("session"), pl.col("newest_bar")
    compute = "(boursomatic materialize --select features)"
    missing = pl.concat_str(
        *(pl.when(pl.col(name).is_null()).then(pl.lit(name)) for name in columns), separator=", ", ignore_nulls=True
    )
    needed = max(feature.lookback for feature in FEATURES if feature.name in columns)
    broken = [
        _when(~pl.col(name).is_finite(), pl.format(f"{name} is no finite number: {{}}", name)) for name in columns
    ]
    return [
        _when(session.is_null(), f"it has no features {compute}"),
        _when(
            session != newest_bar,
            pl.format(f"its newest features are of {{}}, its newest bar of {{}} {compute}", session, newest_bar),
        ),
        pl.col("stale"),
        _when(
            ~is_warmed_up(columns),
            pl.format(f"too little history: no value yet of {{}}; {needed + 1} sessions are needed", missing),
        ),
        *broken,
    ]


def _with_days_behind(candidates: pl.DataFrame) -> pl.DataFrame:
    """Add `stale`: why an instrument's newest bar is too old, null where it is not."""
    newest_bar = pl.col("newest_bar")
    placed = candidates.with_columns(
        calendar=pl.when(newest_bar >= FIRST_SESSION).then(calendar_column()), newest=newest_bar.max()
    )
    pieces = [placed.clear().with_columns(stale=pl.lit(None, pl.String))]
    for (calendar,), rows in placed.partition_by("calendar", as_dict=True).items():
        if calendar is None:
            # Without a calendar days are counted.
            days = (pl.col("newest") - newest_bar).dt.total_days()
            text = pl.format(
                "its newest bar, {}, is {} days behind the newest of all, {}", newest_bar, days, "newest"
            )
            pieces.append(rows.with_columns(stale=_when(days > STALE_DAYS, text)))
        else:
            pieces.append(_behind_its_calendar(rows, calendar))
    return pl.concat(pieces)


def _behind_its_calendar(rows: pl.DataFrame, calendar: str) -> pl.DataFrame:
    newest: date = rows["newest_bar"].max()  # type: ignore[assignment]
    sessions = sessions_between(calendar, rows["newest_bar"].min(), newest)  # type: ignore[arg-type]
    behind = len(sessions) - sessions.search_sorted(rows["newest_bar"], side="right").cast(pl.Int64)
    text = pl.format(
        f"its newest bar, {{}}, is {{}} sessions behind the newest of {calendar}, {newest}", "newest_bar", "behind"
    )
    counted = rows.with_columns(behind=behind)
    return counted.with_columns(stale=_when(pl.col("behind") > STALE_SESSIONS, text)).drop("behind")


def _require_equal(
    manifest: Manifest, where: str, expected: Sequence[str], found: Sequence[str] | None, what: str
) -> None:
    if list(expected) != list(found or ()):
        names = None if found is None else list(found)
        raise _mismatch(manifest, f"{what} in the order of {where}", list(expected), names, "its manifest names")


def _require_booster(manifest: Manifest, name: str, model: FittedModel, outputs: int) -> None:
    from lightgbm.basic import LightGBMError

    try:
        booster = model.booster
    except LightGBMError as error:
        raise _mismatch(manifest, f"a {name}.txt", "a LightGBM model", error, "it holds none") from error
    features = list(model.feature_names)
    if booster.feature_name() != features:
        raise _mismatch(manifest, f"features of {name}.txt", features, booster.feature_name(), "it takes")
    if booster.num_model_per_iteration() != outputs:
        found = booster.num_model_per_iteration()
        raise _mismatch(manifest, f"number of outputs of {name}.txt", outputs, found, "it gives")


def _mismatch(manifest: Manifest, what: str, expected: object, found: object, how: str) -> ModelMismatchError:
    message = (
        f"model {manifest.version} cannot be served: {what}: expected {expected}, and {how} {found}. "
        "Nothing was recommended. Train anew: boursomatic materialize --select features+ --to model_version"
    )
    return ModelMismatchError(message)
