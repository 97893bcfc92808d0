"""What is known of prices.

The bar contract, calendars, corporate actions, steps that nothing explains, memberships. `bars` has the columns
and rules that every panel of bars keeps. Where prices come from is `providers`; features and labels are
`dataset`. `printed` is here because messages about bars write figures too.
"""
