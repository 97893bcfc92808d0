"""Rank information coefficient: the correlation of forecast and outcome across names, session by session."""

from __future__ import annotations

import polars as pl

RANK_IC_TITLES = {"rank_ic": "Rank IC", "matched_rank_ic": "Rank IC at equal volatility"}
# The rank correlation of two names can only be 1 or -1.
FEWEST_NAMES = 3
# Smallest group of names with similar p(HOLD), and the most groups of a session.
GROUP_NAMES, MOST_GROUPS = 8, 10


def rank_ic(panel: pl.DataFrame, score: str = "predicted_return", outcome: str = "forward_return") -> pl.DataFrame:
    """Spearman's rank correlation of a score with the outcome, within each session.

    Rows with a null on either side do not count. Equal values share their mean rank. Returns `session`, `rank_ic`
    in [-1, 1] and `names` ranked, without sessions with fewer than three names or a constant side.

    Grinold and Kahn, Active Portfolio Management (2000), chapter 6.
    """
    ranked = panel.drop_nulls([score, outcome]).select(
        "session", score=pl.col(score).rank().over("session"), outcome=pl.col(outcome).rank().over("session")
    )
    sessions = ranked.group_by("session").agg(rank_ic=pl.corr("score", "outcome"), names=pl.len())
    defined = pl.col("rank_ic").is_finite() & (pl.col("names") >= FEWEST_NAMES)
    return sessions.filter(defined).sort("session")


def volatility_groups(panel: pl.DataFrame) -> pl.DataFrame:
    """Group the names of each session by expected volatility, with `probability_hold` as its proxy.

    p(HOLD) falls with volatility, and contains all that the model knows of it. Group 0 is the most volatile; a
    session has at most ten groups of at least eight names. Sessions with fewer than two groups are left out.
    """
    names = pl.len().over("session")
    groups = (names // GROUP_NAMES).clip(1, MOST_GROUPS)
    place = pl.col("probability_hold").rank("ordinal").over("session") - 1
    grouped = panel.with_columns(group=place * groups // names, groups=groups)
    return grouped.filter(pl.col("groups") > 1).drop("groups")


def matched_rank_ic(
    panel: pl.DataFrame, score: str = "predicted_return", outcome: str = "forward_return"
) -> pl.DataFrame:
    """Rank correlation of a score with the outcome, within each session and among similarly volatile names.

    Ranks are centred within each group, so that differences between groups do not count. Volatile names move
    farthest with the market: a score that knows volatility ranks well or badly by chance, and that noise hides a
    small skill.

    Returns `session`, `rank_ic` in [-1, 1] and `names`, of sessions with at least two groups of
    `volatility_groups`.
    """
    within = ["session", "group"]
    ranked = volatility_groups(panel.drop_nulls([score, outcome])).select(
        "session",
        *(
            (pl.col(column).rank().over(within) - (pl.len().over(within) + 1) / 2).alias(side)
            for side, column in (("score", score), ("outcome", outcome))
        ),
    )
    sessions = ranked.group_by("session").agg(rank_ic=pl.corr("score", "outcome"), names=pl.len())
    return sessions.filter(pl.col("rank_ic").is_finite()).sort("session")


def rank_ics(panel: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """`rank_ic` and `matched_rank_ic` of the forecast, by name."""
    return {"rank_ic": rank_ic(panel), "matched_rank_ic": matched_rank_ic(panel)}


def rank_ic_by_year(sessions: pl.DataFrame) -> pl.DataFrame:
    """Mean rank IC and number of sessions by calendar `year`."""
    return (
        sessions.group_by(year=pl.col("session").dt.year())
        .agg(mean=pl.col("rank_ic").mean(), sessions=pl.len())
        .sort("year")
    )
