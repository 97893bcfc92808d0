"""Rank information coefficient: whether what was forecast higher did rise more, session by session."""

from __future__ import annotations

import polars as pl

# Two names are ranked alike or the other way round, which says nothing of a degree.
FEWEST_NAMES = 3


def rank_ic(panel: pl.DataFrame, score: str = "predicted_return", outcome: str = "forward_return") -> pl.DataFrame:
    """Spearman's rank correlation of a score with what followed, within each session.

    Parameters
    ----------
    panel : DataFrame
        Panel with the two columns; rows where one is null do not count.
    score, outcome : str
        Column names.

    Returns
    -------
    DataFrame
        `session`, `rank_ic` in [-1, 1] and `names` ranked; sessions with fewer than three names, or in which
        one side does not vary, are left out.

    Notes
    -----
    Equal values share the mean of their ranks. Grinold and Kahn, Active Portfolio Management (2000), chapter 6.
    """
    ranked = panel.drop_nulls([score, outcome]).select(
        "session",
        score=pl.col(score).rank().over("session"),
        outcome=pl.col(outcome).rank().over("session"),
    )
    sessions = ranked.group_by("session").agg(rank_ic=pl.corr("score", "outcome"), names=pl.len())
    defined = pl.col("rank_ic").is_finite() & (pl.col("names") >= FEWEST_NAMES)
    return sessions.filter(defined).sort("session")


def rank_ic_by_year(sessions: pl.DataFrame) -> pl.DataFrame:
    """Mean of the sessions' coefficients by calendar year: `year`, `mean`, `sessions`."""
    return (
        sessions.group_by(year=pl.col("session").dt.year())
        .agg(mean=pl.col("rank_ic").mean(), sessions=pl.len())
        .sort("year")
    )
