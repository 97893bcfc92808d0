"""Tables in files: opened, recognised, and read to exact values, or refused with the reason."""
