"""The environment as typed settings, read on demand and not at import.

`variables` declares every environment variable once; `Settings`, `NoticeSettings` and `WebSettings` read them. Only
`automation_is_on` and `sensor_seconds` are read when the code location is loaded, because Dagster needs them there.
"""

from boursomatic_assets.settings.notices import MailSettings, NoticeSettings
from boursomatic_assets.settings.platform import Settings, automation_is_on, sensor_seconds, wait_briefly
from boursomatic_assets.settings.variables import DEFAULT_PROVIDER
from boursomatic_assets.settings.web import WebSettings

__all__ = [
    "DEFAULT_PROVIDER",
    "MailSettings",
    "NoticeSettings",
    "Settings",
    "WebSettings",
    "automation_is_on",
    "sensor_seconds",
    "wait_briefly",
]
