"""The embedded PostgreSQL: `cluster` on disk, process, socket and the account it runs under.

`embedded` starts and stops it and gives its address. A server that `DATABASE_URL` names is not touched.
"""
