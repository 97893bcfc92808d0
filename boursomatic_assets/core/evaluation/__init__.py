"""Every reported figure beside its baseline, what may be concluded, and whether it can be believed.

`judging` makes an `evaluation`; `verdict` concludes in one sentence; `plausibility` has every bound;
`suspects` and `survivors` say what the figures rest on. The formulas themselves are `measures`.
"""
