"""Metadata of the metrics and of the feature importance: numbers that plot, and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from boursomatic_assets.core.dataset.labels import CLASS_NAMES
from boursomatic_assets.core.market.fingerprints import fingerprint
from boursomatic_assets.display.ui.metadata import numeric_metadata, picture, table_metadata
from boursomatic_assets.display.ui.model_pictures import confusion_picture, equity_picture, importance_picture
from boursomatic_assets.storage.dagster.instance import CLOSES_VERSION

if TYPE_CHECKING:
    import polars as pl

    from boursomatic_assets.core.evaluation.metrics import Metrics

# In the value and its preview, but not plotted.
_DETAILS = ("early_exits", "exposure", "turnover", "annual_return", "_train", "prior_accuracy", "prior_log_loss")


def metrics_metadata(metrics: Metrics, value: dict[str, Any], closes: pl.DataFrame) -> dict[str, Any]:
    """Metadata of the asset `metrics`. `value` is `found` as strict JSON; `closes` marked the books to market."""
    shown = {name: figure for name, figure in metrics.figures.items() if not name.endswith(_DETAILS)}
    return {
        "equity_and_drawdown": picture(equity_picture(metrics.books), "Equity and drawdown of the BUY calls"),
        "confusion_matrices": picture(confusion_picture(metrics.confusions, CLASS_NAMES), "Confusion matrices"),
        **numeric_metadata(shown),
        **({"undefined": value["undefined"]} if value["undefined"] else {}),
        CLOSES_VERSION: fingerprint(closes),
        "preview": dg.MetadataValue.json(value),
    }


def importance_metadata(ranked: pl.DataFrame) -> dict[str, Any]:
    """Metadata of the asset `feature_importance`."""
    gains = dict(zip(ranked["feature"], ranked["classifier_gain"], strict=True))
    return {
        **table_metadata(ranked),
        **{f"gain_{name}": float(gain) for name, gain in gains.items()},
        "importance": picture(importance_picture(ranked), "Feature importance"),
    }
