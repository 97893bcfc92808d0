"""Tranches and books: what following the calls would have earned."""
