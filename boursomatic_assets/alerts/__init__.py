"""Failure notices, whole: what is told, where it waits, how it is delivered.

`messages` decides what to tell of runs that ended, `outbox` keeps it in PostgreSQL until it is delivered,
`channels` are the log, webhooks and e-mail. The sensor that sends is in `sensor`; the command that lists notices
is in `commands`.
"""
