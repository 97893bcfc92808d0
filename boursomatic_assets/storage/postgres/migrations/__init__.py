"""Alembic migrations of the platform's own schema, kept apart from any other program's."""
