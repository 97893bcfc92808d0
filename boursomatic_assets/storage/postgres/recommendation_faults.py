"""Rules that active recommendations must never break, checked in the database."""

from __future__ import annotations

import polars as pl

from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.models.predictions import SUM_TOLERANCE
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.tables import KEYS


def active_symbols(database: Database) -> pl.Series:
    """Symbols of the active instruments, as panels name them."""
    found = database.read(
        f"WITH {KEYS} SELECT k.symbol FROM keys k JOIN instruments i ON i.id = k.id WHERE i.is_active"  # noqa: S608
    )
    return found["symbol"].sort()


def repeated_recommendations(database: Database) -> pl.DataFrame:
    """Instruments and profiles with several active rows: `symbol`, `profile`, `rows`."""
    return database.read(
        f"WITH {KEYS} SELECT k.symbol, r.profile, count(*) AS rows FROM recommendations r "  # noqa: S608
        "JOIN keys k ON k.id = r.instrument_id WHERE r.is_active GROUP BY 1, 2 HAVING count(*) > 1 ORDER BY 1, 2"
    )


def unlawful_probabilities(database: Database) -> pl.DataFrame:
    """Active rows of the active model with impossible probabilities: `symbol`, `profile`, `raw`, `calibrated`.

    Six probabilities in 0 to 1, two sums of 1, and as confidence the calibrated probability of the label are
    lawful.
    """
    return database.read(_UNLAWFUL)


def _values(kind: str) -> list[str]:
    return [f"(s.evidence -> '{kind}' ->> '{name}')::double precision" for name in CLASS_NAMES]


_SUMS = {kind: " + ".join(_values(kind)) for kind in ("probabilities", "calibrated")}
_OUTSIDE = " OR ".join(
    f"{value} NOT BETWEEN 0 AND 1" for kind in ("probabilities", "calibrated") for value in _values(kind)
)
# IS NOT TRUE also catches missing values, which compare as null.
_UNLAWFUL = f"""
    WITH {KEYS}, s AS (
        SELECT k.symbol, r.profile, r.label, r.confidence, r.features_snapshot::jsonb AS evidence
        FROM recommendations r JOIN keys k ON k.id = r.instrument_id
        JOIN model_versions m ON m.id = r.model_version_id
        WHERE r.is_active AND m.is_active)
    SELECT s.symbol, s.profile, {_SUMS["probabilities"]} AS raw, {_SUMS["calibrated"]} AS calibrated FROM s
    WHERE (abs({_SUMS["probabilities"]} - 1) <= {SUM_TOLERANCE}
           AND abs({_SUMS["calibrated"]} - 1) <= {SUM_TOLERANCE}
           AND NOT ({_OUTSIDE})
           AND s.confidence = (s.evidence -> 'calibrated' ->> s.label)::double precision) IS NOT TRUE
    ORDER BY 1, 2
"""  # noqa: S608 (only names of classes)
