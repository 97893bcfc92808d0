"""Declarations of the variables of the retention policy."""

from __future__ import annotations

from boursomatic_assets.settings import forms
from boursomatic_assets.settings.variable import Variable

_DAYS = "a whole number, of days; 0 keeps them for ever"

KEEP_RECOMMENDATIONS = Variable(
    "BOURSOMATIC_KEEP_RECOMMENDATIONS",
    "How long archived recommendations are kept, with their outcomes. Those without an outcome yet, and those of "
    "the active version, stay.",
    _DAYS,
    forms.count,
    default="90",
    example="90",
)
KEEP_BAR_CHANGES = Variable(
    "BOURSOMATIC_KEEP_BAR_CHANGES",
    "How long replaced values of bars are kept. What a stored recommendation needs to be traced stays longer.",
    _DAYS,
    forms.count,
    default="30",
    example="30",
)
KEEP_RUNS = Variable(
    "BOURSOMATIC_KEEP_RUNS",
    "How long Dagster's runs are kept, with their events and logs. Runs behind the newest value of an asset, a "
    "kept bundle or a stored recommendation stay longer.",
    _DAYS,
    forms.count,
    default="30",
    example="30",
)
KEEP_TICKS = Variable(
    "BOURSOMATIC_KEEP_TICKS",
    "How long the ticks of sensors and schedules are kept.",
    _DAYS,
    forms.count,
    default="7",
    example="7",
)
KEEP_RECORDS = Variable(
    "BOURSOMATIC_KEEP_RECORDS",
    "How long results of fetching, rejected bars and settled notices are kept.",
    _DAYS,
    forms.count,
    default="180",
    example="180",
)
KEEP_PAGES = Variable(
    "BOURSOMATIC_KEEP_PAGES",
    "How long reports of versions without a bundle are kept, and trace pages of removed recommendations.",
    _DAYS,
    forms.count,
    default="30",
    example="30",
)
KEEP_BUNDLES = Variable(
    "BOURSOMATIC_KEEP_BUNDLES",
    "How many of the newest bundles are kept. Bundles of versions that were ever active always stay.",
    "a whole number, of bundles",
    forms.count,
    default="10",
    example="10",
)
