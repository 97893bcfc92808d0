"""What Dagster needs of us: the instance and its configuration, IO managers, resources, the run launcher.

Assets get their values through it. Jobs and sensors are `automation`.
"""
