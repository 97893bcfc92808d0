from __future__ import annotations

import pytest

from boursomatic_assets.core.market.arrivals import FeedState, feed_state


@pytest.mark.parametrize(
    ("arrived", "hours", "state"),
    [
        # 98 % of 100 symbols are 98.
        (98, 1.0, FeedState.COMPLETE),
        (98, 9.0, FeedState.COMPLETE),
        (97, 7.9, FeedState.EXPECTED),
        (97, 8.0, FeedState.LATE),
    ],
)
def test_feed_state(arrived: int, hours: float, state: FeedState) -> None:
    assert feed_state(arrived=arrived, expected=100, required=0.98, hours=hours, last_hours=8.0) is state
