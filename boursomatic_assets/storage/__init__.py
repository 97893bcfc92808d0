"""Storage: rows and files are read and written here, never interpreted.

`postgres` has the tables, `server` the embedded PostgreSQL, `artifacts` files, `dagster` the instance. `private`
makes files and folders that only their owner can read.
"""
