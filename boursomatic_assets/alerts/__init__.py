"""Failure notices: messages about failed runs, the outbox that keeps them, and the channels that deliver them.

`failures` decides what to tell, `outbox` keeps messages in PostgreSQL until they are delivered, `channels` are the
log, webhooks and e-mail.
"""
