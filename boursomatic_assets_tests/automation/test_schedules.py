"""Updates after each close: when they are due, when there is nothing to do, and that each session has one run."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import dagster as dg
import exchange_calendars
import pytest

from boursomatic_assets.automation.jobs import daily_update
from boursomatic_assets.automation.schedules import SCHEDULES, euronext_after_close, us_after_close
from boursomatic_assets.core.market.calendars import SETTLING, last_complete_session
from boursomatic_assets.definitions import defs

NEW_YORK, PARIS = ZoneInfo("America/New_York"), ZoneInfo("Europe/Paris")


@pytest.fixture(autouse=True)
def network_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOURSOMATIC_PROVIDER", "yahoo")


def skipped(schedule: dg.ScheduleDefinition, moment: datetime) -> str:
    tick = schedule.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=moment))
    assert not tick.run_requests
    assert tick.skip_message
    return tick.skip_message


def requested(schedule: dg.ScheduleDefinition, moment: datetime) -> dg.RunRequest:
    tick = schedule.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=moment))
    assert tick.run_requests
    (request,) = tick.run_requests
    return request


@pytest.mark.parametrize(
    ("day", "us_open", "euronext_open"),
    [
        ((2024, 12, 24), True, True),  # a half day on both sides
        ((2024, 12, 25), False, False),  # Christmas Day
        ((2024, 12, 26), True, False),  # a holiday in Europe only
        ((2024, 7, 4), False, True),  # Independence Day
        ((2024, 5, 1), True, False),  # Labour Day in Europe
        ((2024, 11, 29), True, True),  # the short Friday after Thanksgiving
    ],
)
def test_holidays_of_its_own_exchanges_are_skipped_and_half_days_are_not(
    day: tuple[int, int, int], *, us_open: bool, euronext_open: bool
) -> None:
    at_us, at_paris = datetime(*day, 16, 35, tzinfo=NEW_YORK), datetime(*day, 18, 5, tzinfo=PARIS)
    date = f"{day[0]}-{day[1]:02}-{day[2]:02}"
    if us_open:
        assert requested(us_after_close, at_us).run_key == f"us-{date}"
    else:
        assert skipped(us_after_close, at_us) == f"{date} was no session of XNYS."
    if euronext_open:
        assert requested(euronext_after_close, at_paris).run_key == f"euronext-{date}"
    else:
        assert skipped(euronext_after_close, at_paris) == f"{date} was no session of XPAR, XAMS, XBRU."


def test_a_run_is_for_the_schedules_own_exchanges_and_one_a_session() -> None:
    moment = datetime(2024, 6, 10, 18, 5, tzinfo=PARIS)
    first, again = requested(euronext_after_close, moment), requested(euronext_after_close, moment)
    assert first.run_key == again.run_key == "euronext-2024-06-10"
    assert first.run_config["resources"]["platform"]["config"] == {"exchanges": "XPAR,XAMS,XBRU"}
    assert first.tags["boursomatic/session"] == "2024-06-10"
    us = requested(us_after_close, datetime(2024, 6, 10, 16, 35, tzinfo=NEW_YORK))
    assert us.run_config["resources"]["platform"]["config"] == {"exchanges": "XNYS"}


def test_the_bundled_sample_has_nothing_new_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOURSOMATIC_PROVIDER", "sample")
    message = skipped(us_after_close, datetime(2024, 6, 10, 16, 35, tzinfo=NEW_YORK))
    assert message == "The price source 'sample' never has anything new: set BOURSOMATIC_PROVIDER."


@pytest.mark.parametrize(
    ("schedule", "calendar"),
    [(us_after_close, "XNYS"), (euronext_after_close, "XPAR"), (euronext_after_close, "XBRU")],
)
@pytest.mark.parametrize(
    # Winter, the weeks in which only one continent has moved its clocks, summer.
    "week",
    [(2024, 1, 16), (2024, 3, 12), (2024, 6, 10), (2024, 10, 29)],
)
def test_every_tick_comes_when_its_own_close_has_settled(
    schedule: dg.ScheduleDefinition, calendar: str, week: tuple[int, int, int]
) -> None:
    zone = ZoneInfo(str(schedule.execution_timezone))
    minute, hour, *days = str(schedule.cron_schedule).split()
    assert days == ["*", "*", "1-5"]
    tick = datetime(*week, int(hour), int(minute), tzinfo=zone)
    exchange = exchange_calendars.get_calendar(calendar, start="2024-01-02", end="2024-12-31")
    session = tick.date()
    close = exchange.session_close(session.isoformat()).to_pydatetime()
    assert close + SETTLING <= tick
    # So that what is fetched then includes the session that has just ended.
    assert last_complete_session(calendar, tick) == session


def test_updates_follow_each_close_and_a_training_each_week() -> None:
    jobs = {schedule.name: schedule.job_name for schedule in SCHEDULES}
    assert jobs == {
        "us_after_close": daily_update.name,
        "euronext_after_close": daily_update.name,
        "weekly_retrain": "retrain",
    }
    for schedule in SCHEDULES:
        assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
        assert schedule.description
    chosen = defs.resolve_job_def("daily_update").asset_layer.executable_asset_keys
    assert {key.to_user_string() for key in chosen} == {"instruments", "price_bars", "features"}
