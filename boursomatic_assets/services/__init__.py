"""What takes several steps over storage: ingest, features, recommending, tracing."""
