"""Whether new sessions look like those before: distances of features and predictions, judged against the past.

`reference` is stored with a model, `windows` measures, `watch` decides. What starts a training because of it is
`automation`.
"""
