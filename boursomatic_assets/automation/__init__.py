"""What starts runs without a person: jobs, schedules and sensors.

Sensors read what is recorded (`observing`, `training`), decide by a pure function (`decisions`), and ask for a
run or say why not. Nothing is computed here, and no message is sent: that is `alerts`.
"""
