"""Prices and their contract: bars, calendars, corporate actions, unexplained jumps, index membership.

`bars` has the columns and rules of every bar panel. `providers` fetches prices; features and labels are in
`dataset`. `printed` is here because messages about bars print figures too.
"""
