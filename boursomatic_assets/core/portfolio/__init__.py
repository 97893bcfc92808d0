"""What following the calls would have earned: twenty overlapping tranches, and the books of a panel.

Positions are filled one session after a call and marked to market daily, net of cost. Ratios of returns are
`measures`; the comparison of books with baselines is `evaluation`.
"""
