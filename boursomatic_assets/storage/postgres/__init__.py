"""One module per table or group of tables, the schema and its migrations. `docs/tables.md` describes the tables."""
