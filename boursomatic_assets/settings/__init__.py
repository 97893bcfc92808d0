"""The environment as typed settings, read on demand and not at import.

`variables` has every environment variable once; `Settings`, `NoticeSettings`, `WebSettings` and `Retention` read
them. Only `automation_is_on` and `sensor_seconds` are read when Dagster loads the code location.
"""

from boursomatic_assets.settings.notices import MailSettings, NoticeSettings
from boursomatic_assets.settings.platform import Settings, automation_is_on, sensor_seconds, wait_briefly
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
    "automation_is_on",
    "sensor_seconds",
    "wait_briefly",
]
