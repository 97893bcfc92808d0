"""Failure notices: what to tell, the outbox, the channels, the sensor that sends."""
