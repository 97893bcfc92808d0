"""What people look at: pictures, tables and lineage drawings for the UI and the terminal."""
