"""The commands `boursomatic notices`: list messages about failures, and deliver them."""

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from boursomatic_assets.commands.opening import console, errors, open_database

if TYPE_CHECKING:
    from boursomatic_assets.alerts.channels import Channel
    from boursomatic_assets.alerts.outbox import Notice
    from boursomatic_assets.settings import NoticeSettings

SHOWN = 50
SENDING_SECONDS = 300.0

notices = typer.Typer(
    help="Messages about failed runs and failed blocking checks: list and deliver them.\n\n"
    "They go to the log, to BOURSOMATIC_NOTICE_WEBHOOK, and by e-mail to BOURSOMATIC_NOTICE_TO, if these are set. "
    "All variables: boursomatic settings",
    no_args_is_help=True,
)


@notices.command("list")
def list_messages(
    *,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only messages that a channel has not taken.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON, a list of objects.")] = False,
) -> None:
    """Show the messages, the newest first."""
    from boursomatic_assets.alerts.listing import notices_table
    from boursomatic_assets.alerts.outbox import count_waiting, list_notices

    _, database = open_database()
    listed = list_notices(database, limit=SHOWN, is_waiting=waiting)
    if as_json:
        typer.echo(json.dumps([_plain(notice) for notice in listed], indent=2, ensure_ascii=False, allow_nan=False))
    elif listed:
        console.print(notices_table(listed))
        console.print(f"Waiting for delivery: {count_waiting(database)}")
    else:
        console.print("No messages wait." if waiting else "No messages: nothing has failed while the daemon ran.")


@notices.command()
def send(
    *,
    test: Annotated[
        bool, typer.Option("--test", help="Only send a test message by every channel; it is not stored.")
    ] = False,
) -> None:
    """Deliver waiting messages now. The daemon does this by itself.

    Ends with 1 if a channel does not take a message.

    For example:

      boursomatic notices send --test
    """
    from boursomatic_assets.alerts.channels import configured_channels
    from boursomatic_assets.settings import NoticeSettings

    settings = NoticeSettings.from_environment()
    channels = configured_channels(settings, _console_logger())
    failed = _send_test(settings, channels) if test else _send_waiting(channels)
    for reason in failed:
        errors.print(f"[bold red]Not delivered:[/bold red] {reason}", soft_wrap=True, highlight=False)
    if failed:
        raise typer.Exit(1)


def _send_test(settings: "NoticeSettings", channels: "list[Channel]") -> list[str]:
    from boursomatic_assets.alerts.messages import trial_message
    from boursomatic_assets.errors import NotDeliveredError

    now = datetime.now(UTC)
    message, failed = trial_message(now, settings.ui_url), []
    for channel in channels:
        try:
            channel.send(message, f"boursomatic-test-{now:%Y%m%d%H%M%S%f}")
        except NotDeliveredError as error:
            failed.append(str(error))
        else:
            console.print(f"{channel.name}: delivered")
    for name, variable in (("webhook", "BOURSOMATIC_NOTICE_WEBHOOK"), ("email", "BOURSOMATIC_NOTICE_TO")):
        if name not in {channel.name for channel in channels}:
            console.print(f"{name}: not set ({variable})")
    return failed


def _send_waiting(channels: "list[Channel]") -> list[str]:
    from boursomatic_assets.alerts.outbox import count_waiting
    from boursomatic_assets.alerts.sending import deliver_due

    _, database = open_database()
    delivery = deliver_due(database, channels, SENDING_SECONDS, ignore_wait=True)
    console.print(f"Deliveries: {delivery.delivered}. Waiting: {count_waiting(database)}")
    return list(delivery.failed.values())


def _console_logger() -> logging.Logger:
    """A log on this console."""
    logger = logging.Logger("boursomatic.notices", logging.INFO)  # noqa: LOG001 (of this command alone)
    handler = logging.StreamHandler(errors.file)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    return logger


def _plain(notice: "Notice") -> dict[str, object]:
    message = notice.message
    return {
        "id": notice.id,
        "kind": message.kind.value,
        "key": message.key,
        "asset": message.asset,
        "subject": message.subject,
        "text": message.text,
        "details": message.details,
        "times": notice.times,
        "created_at": notice.created_at.isoformat(),
        "recovered_at": _moment(notice.recovered_at),
        "delivered": dict(notice.delivered),
        "attempts": notice.attempts,
        "next_attempt_at": _moment(notice.next_attempt_at),
        "last_error": notice.last_error,
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
