"""Audit of unexplained jumps in the stored prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from boursomatic_assets.core.market.bars import PANEL_KEY
from boursomatic_assets.core.market.corporate_actions import (
    JUMP_SCHEMA,
    doubtful_steps,
    large_moves,
    split_like_jumps,
)
from boursomatic_assets.services.ingest.audit import usable_batches
from boursomatic_assets.storage.postgres.adjustments_table import read_corrections

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database


@dataclass(frozen=True)
class JumpAudit:
    """Jumps of `JUMP_SCHEMA`: of quarantined symbols, left after adjustments, accepted but doubtful.

    `large_moves` are the other moves, without `split_ratio`.
    """

    waiting: pl.DataFrame
    left: pl.DataFrame
    doubtful: pl.DataFrame
    large_moves: pl.DataFrame


def audit_jumps(database: Database) -> JumpAudit:
    """Search overnight steps that the instrument, the market and the volume do not explain."""
    with database.bulk() as cursor:
        corrections = read_corrections(cursor)
    accepted = corrections.adjustments.filter(pl.col("ratio") == 1.0)
    nothing = pl.DataFrame(schema=JUMP_SCHEMA)
    left, doubtful, moves = [nothing], [nothing], [nothing.drop("split_ratio")]
    for bars in usable_batches(database, ["open", "close", "volume"]):
        left.append(split_like_jumps(bars))
        doubtful.append(doubtful_steps(bars))
        moves.append(large_moves(bars))
    return JumpAudit(
        corrections.jumps,
        pl.concat(left).join(accepted, on=PANEL_KEY, how="anti"),
        pl.concat(doubtful).join(accepted, on=PANEL_KEY, how="anti"),
        pl.concat(moves),
    )
