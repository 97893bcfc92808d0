"""Metadata of the labels: the panel, the mix of classes, rows without a label, rows outside of sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boursomatic_assets.core.dataset.labels import closed_early, label_mix, realised_rows, unlabelled_rows
from boursomatic_assets.core.market.sessions import off_sessions
from boursomatic_assets.display.ui.data_pictures import label_mix_picture
from boursomatic_assets.display.ui.metadata import column_lineage, panel_metadata, picture

if TYPE_CHECKING:
    import polars as pl

    from boursomatic_assets.core.dataset.experiment import Experiment

STRAY_ROWS_SHOWN = 50


def labels_metadata(
    labelled: pl.DataFrame, every: pl.DataFrame, closes: pl.DataFrame, memberships: int, experiment: Experiment
) -> dict[str, Any]:
    """Metadata of the asset `labels`.

    `every` is the panel before rows outside of memberships were left out; `closes` are the bars behind the labels.
    """
    mix = label_mix(labelled)
    return {
        **panel_metadata(labelled),
        **column_lineage("labels", experiment.features),
        **{f"rows_{name.lower()}": count for name, count in mix.items()},
        "rows_to_predict": unlabelled_rows(labelled).height,
        "rows_of_no_members": every.height - labelled.height,
        "symbols_never_members": every["symbol"].n_unique() - labelled["symbol"].n_unique(),
        "memberships_known": memberships,
        "horizon": experiment.horizon,
        "rows_closed_at_their_last_price": closed_early(realised_rows(labelled, experiment))["rows"],
        **_stray_metadata(labelled, closes),
        "label_mix": picture(label_mix_picture({"labels": mix}), "Label mix"),
    }


def _stray_metadata(labelled: pl.DataFrame, closes: pl.DataFrame) -> dict[str, Any]:
    """Rows on days without a session; they are neither learned from nor judged."""
    stray = off_sessions(closes).join(labelled, on=["symbol", "session"], how="semi").sort("session", "symbol")
    named = ", ".join(
        f"{symbol} {day}" for symbol, day in stray.head(STRAY_ROWS_SHOWN).select("symbol", "session").rows()
    )
    return {"rows_on_no_session": stray.height, **({"on_no_session": named} if stray.height else {})}
