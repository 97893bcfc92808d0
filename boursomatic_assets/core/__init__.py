"""The numbers: pure functions without framework, database, network, clock or environment.

One room for each step of the lineage; a room imports only from rooms upstream of it, so that no feature can read
a label. What needs storage beside the numbers is in `services`.
"""
