"""The embedded PostgreSQL: its cluster, process, socket and account, and who may reach them."""
