"""Books that follow calls: overlapping tranches, filled one session after a call, marked daily, net of cost.

Ratios of returns are in `measures`; `evaluation` compares books with baselines.
"""
