"""Tranches and books: what following the calls would have earned, beside books that need no model.

Sharpe ratio and drawdown of their returns are in `measures`.
"""
