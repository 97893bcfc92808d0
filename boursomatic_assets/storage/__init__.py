"""Where things are kept.

`postgres` has tables, `server` the embedded PostgreSQL, `artifacts` files, `dagster` the instance. `private`
makes files and folders that other users cannot read. Rows and files are read and written here, never interpreted.
"""
