"""From probabilities to calls: label per risk profile, stop and target, reasons in English and French, outcomes.

`calls` decides, `reasons` and `sentences` explain, `outcomes` says what became of it. Writing rows is
`services.recommending`.
"""
