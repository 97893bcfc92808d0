"""The retention policy, applied to tables, artifacts and Dagster's storage.

`policy` decides, `prune` removes. What a kept recommendation or version needs to be traced and verified stays.
"""
