"""Asset sensors that see every event: Dagster's own type, with a function of ours in place of its evaluation.

Dagster's `@asset_sensor` reads only the newest event of a tick and starts runs for old events at its first tick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any


class AssetSensor(dg.AssetSensorDefinition):
    """A sensor that the UI shows as an asset sensor, with the asset that it monitors."""

    def __init__(self, sensor: dg.SensorDefinition, asset_key: dg.AssetKey) -> None:
        self.__dict__.update(vars(sensor))
        self._monitored = asset_key

    @property
    def asset_key(self) -> dg.AssetKey:
        """The asset that it monitors."""
        return self._monitored

    def with_attributes(
        self, *, jobs: Sequence[Any] | None = None, metadata: Mapping[str, Any] | None = None
    ) -> AssetSensor:
        """A copy with other jobs or metadata; Dagster binds jobs to a code location with it."""
        sensor = dg.SensorDefinition.with_attributes(self, jobs=jobs, metadata=metadata)
        return AssetSensor(sensor, self._monitored)


def monitors(asset: str) -> Callable[[dg.SensorDefinition], AssetSensor]:
    """Make a sensor an asset sensor of this asset."""
    return lambda sensor: AssetSensor(sensor, dg.AssetKey(asset))
