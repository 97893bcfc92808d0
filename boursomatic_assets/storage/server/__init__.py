"""The embedded PostgreSQL: its cluster on disk, process, socket and account.

`embedded` starts and stops it and gives its address. A server named by `DATABASE_URL` is never touched.
"""
