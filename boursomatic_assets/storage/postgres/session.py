"""Settings of every session: those that a database or a login may have would shift, round or hide values."""

from __future__ import annotations

from urllib.parse import quote

import sqlalchemy as sa

_SETTINGS = {
    # Of times without a zone, and their texts.
    "TimeZone": "UTC",
    "DateStyle": "ISO,MDY",
    "IntervalStyle": "postgres",
    # Digits of numbers in texts, which are hashed.
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    # After waiting for a lock, a statement sees what was committed meanwhile.
    "default_transaction_isolation": r"read\ committed",
    # An error instead of missing rows.
    "row_security": "off",
}


def session_url(url: str, **more: str) -> sa.URL:
    """Address with the settings of our sessions, which come before those of the database and the login."""
    address = sa.make_url(url)
    settings = (f"-c{name}={value}" for name, value in {**_SETTINGS, **more}.items())
    return address.update_query_dict({"options": " ".join((*_given(address), *settings))})


def session_string(url: str) -> str:
    """The same as libpq reads it, in which a space is written %20."""
    address = session_url(url)
    plain = address.difference_update_query(["options"]).render_as_string(hide_password=False).replace(" ", "%20")
    return f"{plain}{'&' if '?' in plain else '?'}options={quote(' '.join(_given(address)), safe='')}"


def _given(address: sa.URL) -> tuple[str, ...]:
    options = address.query.get("options", ())
    return (options,) if isinstance(options, str) else options
