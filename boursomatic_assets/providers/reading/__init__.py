"""Tables that people keep in files: opened, understood, and read to exact values or refused with the reason."""
