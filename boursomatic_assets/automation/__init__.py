"""What starts materializations: jobs, later sensors and schedules."""
