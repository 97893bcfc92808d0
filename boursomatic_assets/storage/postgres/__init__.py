"""The tables: one module per table or group of tables, the schema and its migrations.

Reads and writes are columnar, by COPY into a staging table. The tables are described in `docs/tables.md`.
"""
