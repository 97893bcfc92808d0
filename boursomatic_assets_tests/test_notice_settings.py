"""Where messages go, read from the environment; what is wrong is named and secrets are not repeated."""

from __future__ import annotations

import pytest

from boursomatic_assets.errors import ConfigurationError
from boursomatic_assets.settings import MailSettings, NoticeSettings

HOOK = "https://hooks.example/services/T000/hush-hush"


def read(**environment: str) -> NoticeSettings:
    return NoticeSettings.from_environment({f"BOURSOMATIC_{name}": value for name, value in environment.items()})


def test_without_settings_messages_go_to_the_log_alone() -> None:
    assert read() == NoticeSettings("http://127.0.0.1:3000", None, None, ())


def test_the_environment_of_the_process_is_read_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOURSOMATIC_UI_URL", "https://dagster.example/ui/")
    assert NoticeSettings.from_environment().ui_url == "https://dagster.example/ui"


def test_a_mail_server_is_named_by_an_address() -> None:
    found = read(SMTP_URL="smtps://me%40x.org:hush%2Fhush@mail.example", NOTICE_TO="a@x.org, b@x.org,")
    # Port 465 speaks TLS from the start.
    assert found.mail == MailSettings(
        "mail.example", 465, "me@x.org", "hush/hush", is_tls_from_start=True, sender="me@x.org",
        to=("a@x.org", "b@x.org"),
    )  # fmt: skip


def test_a_mail_server_is_named_in_parts() -> None:
    given = {"SMTP_HOST": "mail.example", "SMTP_USER": "me", "SMTP_PASSWORD": "hush", "NOTICE_TO": "a@x.org"}
    assert read(**given).mail == MailSettings(
        "mail.example",
        587,
        "me",
        "hush",
        is_tls_from_start=False,
        sender="boursomatic@mail.example",
        to=("a@x.org",),
    )  # fmt: skip
    other = read(**given, SMTP_PORT="2525", NOTICE_FROM="night@x.org").mail
    assert other is not None
    assert (other.port, other.sender) == (2525, "night@x.org")


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"NOTICE_WEBHOOK": "hush.example/hook"}, "BOURSOMATIC_NOTICE_WEBHOOK must be"),
        ({"NOTICE_WEBHOOK": "https://x.org/hush hush"}, "BOURSOMATIC_NOTICE_WEBHOOK must be"),
        ({"NOTICE_WEBHOOK": "https://[hush"}, "BOURSOMATIC_NOTICE_WEBHOOK must be"),
        ({"NOTICE_WEBHOOK": "https:///hush"}, "BOURSOMATIC_NOTICE_WEBHOOK must be"),
        ({"NOTICE_TO": "a@x.org"}, "found only one of them"),
        ({"SMTP_URL": "smtp://me:hush@mail.example"}, "found only one of them"),
        ({"SMTP_URL": "me:hush@mail.example", "NOTICE_TO": "a@x.org"}, "BOURSOMATIC_SMTP_URL must be"),
        ({"SMTP_URL": "smtp://me:hu/sh@mail.example", "NOTICE_TO": "a@x.org"}, "BOURSOMATIC_SMTP_URL must be"),
        ({"SMTP_URL": "smtp://me:hush@mail.example:0", "NOTICE_TO": "a@x.org"}, "BOURSOMATIC_SMTP_URL must be"),
        ({"SMTP_URL": "smtp://", "NOTICE_TO": "a@x.org"}, "BOURSOMATIC_SMTP_URL must be"),
        ({"SMTP_HOST": "m", "SMTP_PORT": "many", "NOTICE_TO": "a@x.org"}, "BOURSOMATIC_SMTP_PORT must be"),
        ({"SMTP_HOST": "m", "NOTICE_TO": "nobody"}, "must be addresses; found 'nobody'"),
        ({"SMTP_HOST": "m", "NOTICE_TO": "a@x.org\nBcc: b@x.org"}, "must be addresses"),
        ({"UI_URL": "dagster.example"}, "BOURSOMATIC_UI_URL must be"),
    ],
)
def test_what_cannot_be_used_is_named_without_its_secrets(environment: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        read(**environment)
    assert "hush" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_secrets_are_known_as_they_are_and_as_they_are_written_and_never_shown() -> None:
    found = NoticeSettings.from_environment(
        {
            "DATABASE_URL": "postgresql://me:database%2Fhush@db/prices",
            "BOURSOMATIC_SMTP_URL": "smtp://me:mail%2Fhush@mail.example",
            "BOURSOMATIC_NOTICE_TO": "a@x.org",
            "BOURSOMATIC_NOTICE_WEBHOOK": HOOK,
            "BOURSOMATIC_STOOQ_KEY": "stooq-hush",
        }
    )
    assert set(found.secrets) == {
        "database%2Fhush", "database/hush", "mail%2Fhush", "mail/hush", HOOK, "/services/T000/hush-hush",
        "stooq-hush", "me:database/hush", "me:mail/hush",
    }  # fmt: skip
    assert "hush" not in repr(found)
    assert read(NOTICE_WEBHOOK="http://x.org/T").secrets == ("/T", "http://x.org/T")
    assert NoticeSettings.from_environment({"DATABASE_URL": "postgresql://[broken"}).secrets == ()
    # A home that cannot be used is no matter of notices: a message about it must still be sent.
    assert NoticeSettings.from_environment({"BOURSOMATIC_HOME": "~no-such-user-here/b"}).secrets == ()
