"""Distances between the distributions in two windows of sessions: PSI, Kolmogorov-Smirnov, Jensen-Shannon."""

from __future__ import annotations

import numpy as np

BINS, CELLS_IN_A_BIN = 10, 20
CELLS = BINS * CELLS_IN_A_BIN


def bin_shares(counts: np.ndarray) -> np.ndarray:
    """Shares of the ten equal-mass bins and of the nulls, each with half a row more so that none is zero."""
    bins = counts[..., :CELLS].reshape(*counts.shape[:-1], BINS, CELLS_IN_A_BIN).sum(axis=-1)
    filled = np.concatenate([bins, counts[..., CELLS:]], axis=-1) + 0.5
    shares: np.ndarray = filled / filled.sum(axis=-1, keepdims=True)
    return shares


def distances(now: np.ndarray, earlier: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Population stability index, Kolmogorov-Smirnov statistic and Jensen-Shannon distance (base 2) of counts."""
    shares, before = bin_shares(now), bin_shares(earlier)
    index = ((shares - before) * np.log(shares / before)).sum(axis=-1)
    largest_gap = np.abs(_distribution(now) - _distribution(earlier)).max(axis=-1)
    return index, largest_gap, jensen_shannon(shares, before)


def jensen_shannon(shares: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Jensen-Shannon distance (base 2) along the last axis."""
    from scipy.spatial.distance import jensenshannon

    distance: np.ndarray = jensenshannon(shares, before, base=2, axis=-1)
    return distance


def _distribution(counts: np.ndarray) -> np.ndarray:
    known = counts[..., :CELLS]
    shares: np.ndarray = known.cumsum(axis=-1) / np.maximum(known.sum(axis=-1, keepdims=True), 1)
    return shares
