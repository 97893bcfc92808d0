"""What starts materializations: jobs, schedules, sensors, and the pure decisions that sensors take."""
