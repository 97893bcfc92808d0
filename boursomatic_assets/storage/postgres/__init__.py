"""Tables, migrations and the embedded server."""
