"""What takes several steps over storage: ingest, features, training and promotion, recommending, tracing, audits.

The numbers are computed in `core`; nothing is drawn here, and no service knows which asset or command calls it.
"""
