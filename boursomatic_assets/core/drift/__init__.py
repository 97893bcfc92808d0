"""Whether new sessions look like those that a model learned from: windows, distances, alarms.

What an alarm starts is decided in `automation`.
"""
