"""Default status of sensors and schedules: they start only where automation is switched on."""

import dagster as dg

from boursomatic_assets.settings import automation_is_on

_IS_ON = automation_is_on()
SENSOR_STATUS = dg.DefaultSensorStatus.RUNNING if _IS_ON else dg.DefaultSensorStatus.STOPPED
SCHEDULE_STATUS = dg.DefaultScheduleStatus.RUNNING if _IS_ON else dg.DefaultScheduleStatus.STOPPED
