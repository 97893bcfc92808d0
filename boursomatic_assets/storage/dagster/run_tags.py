"""Tags of runs by which sensors and schedules find what they started."""

# Why a run was started, for people; and by which sensor or schedule, to find it again.
WHY_TAG, CAUSE_TAG = "boursomatic/why", "boursomatic/cause"
# Names the data and the experiment that a run was started for, by any sensor or schedule.
TRAINED_ON_TAG = "boursomatic/trained_on"
# Names the version whose calls fell short; it causes at most one training.
FELL_SHORT_TAG = "boursomatic/fell_short"
