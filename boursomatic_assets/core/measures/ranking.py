"""Rank information coefficient: whether what was forecast higher did rise more, session by session."""

from __future__ import annotations

import polars as pl

RANK_IC_TITLES = {"rank_ic": "Rank IC", "matched_rank_ic": "Rank IC at equal volatility"}
# Two names are ranked alike or the other way round, which says nothing of a degree.
FEWEST_NAMES = 3
# Within a session, names are compared in groups of at least so many whose p(HOLD) is alike.
GROUP_NAMES, MOST_GROUPS = 8, 10


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


def volatility_groups(panel: pl.DataFrame) -> pl.DataFrame:
    """Sort the names of each session into groups that the model believes alike in volatility.

    Parameters
    ----------
    panel : DataFrame
        By symbol and session, with `probability_hold`.

    Returns
    -------
    DataFrame
        The rows of sessions with at least two groups of eight names, with `group` from 0, the most volatile, to at
        most 9.

    Notes
    -----
    The probability of HOLD falls with volatility, and says all that the model knows of it. Among names of one
    session and alike in it, only a direction is left to tell.
    """
    names = pl.len().over("session")
    groups = (names // GROUP_NAMES).clip(1, MOST_GROUPS)
    place = pl.col("probability_hold").rank("ordinal").over("session") - 1
    grouped = panel.with_columns(group=place * groups // names, groups=groups)
    return grouped.filter(pl.col("groups") > 1).drop("groups")


def matched_rank_ic(
    panel: pl.DataFrame, score: str = "predicted_return", outcome: str = "forward_return"
) -> pl.DataFrame:
    """Rank correlation of a score with what followed, within each session and among names alike in volatility.

    Parameters
    ----------
    panel : DataFrame
        By symbol and session, with the two columns and `probability_hold`.
    score, outcome : str
        Column names.

    Returns
    -------
    DataFrame
        `session`, `rank_ic` in [-1, 1] and `names`, of sessions with at least two groups of `volatility_groups`.

    Notes
    -----
    Ranks within a group are centred on its middle, so that no group as a whole counts. When the market moves,
    volatile names move farthest: a score that knows volatility then ranks well or badly by chance, and that chance
    hides a small skill. It is gone here.
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
    """Both coefficients of the forecast, by the figure's name: `rank_ic` and `matched_rank_ic`."""
    return {"rank_ic": rank_ic(panel), "matched_rank_ic": matched_rank_ic(panel)}


def rank_ic_by_year(sessions: pl.DataFrame) -> pl.DataFrame:
    """Mean of the sessions' coefficients by calendar year: `year`, `mean`, `sessions`."""
    return (
        sessions.group_by(year=pl.col("session").dt.year())
        .agg(mean=pl.col("rank_ic").mean(), sessions=pl.len())
        .sort("year")
    )
