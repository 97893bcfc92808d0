"""Jobs, schedules and sensors: what starts runs without a person.

Sensors read recorded facts (`observing`, `training`), decide by a pure function (`decisions`,
`training_decisions`), and request a run or give the reason why not. Messages are sent by `alerts`.
"""
