"""Alembic migrations, one file per revision, and what they share."""

from typing import Any, NoReturn

import sqlalchemy as sa


def moment(name: str) -> sa.Column[Any]:
    """A time that defaults to now, UTC without a time zone."""
    return sa.Column(name, sa.DateTime(), nullable=False, server_default=sa.text("timezone('utc', now())"))


def refuse_downgrade() -> NoReturn:
    """Refuse: other programs' rows, or people's entries, live in the tables."""
    message = "the platform's migrations only add; restore a backup to go back"
    raise RuntimeError(message)
