"""Alembic's entry: runs on the connection, and inside the transaction, that `schema.upgrade` opened."""

from alembic import context

from boursomatic_assets.storage.postgres.tables import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
