"""The environment as typed settings, read on demand and not at import.

`variables` has every environment variable once; `Settings`, `NoticeSettings`, `WebSettings` and `Retention` read
them. Only `starting_status` and `sensor_seconds` are read when Dagster loads the code location.
"""

from boursomatic_assets.settings.notices import MailSettings, NoticeSettings
from boursomatic_assets.settings.platform import (
    Settings,
    chosen_instance,
    instance_address,
    sensor_seconds,
    starting_status,
    wait_briefly,
)
from boursomatic_assets.settings.retention import Retention
from boursomatic_assets.settings.variables import DEFAULT_PROVIDER
from boursomatic_assets.settings.web import WebSettings

__all__ = [
    "DEFAULT_PROVIDER",
    "MailSettings",
    "NoticeSettings",
    "Retention",
    "Settings",
    "WebSettings",
    "chosen_instance",
    "instance_address",
    "sensor_seconds",
    "starting_status",
    "wait_briefly",
]
