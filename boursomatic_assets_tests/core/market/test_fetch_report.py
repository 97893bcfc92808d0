from __future__ import annotations

from boursomatic_assets.core.market.fetch_report import Outcome, SymbolReport, printable


def test_a_report_holds_no_sign_that_drives_a_terminal() -> None:
    report = SymbolReport("A\x1b[2J", Outcome.REFUSED, detail="no\ttable\r\u202e in é.csv")
    assert (report.symbol, report.detail) == ("A [2J", "no table   in é.csv")
    assert printable("é €") == "é €"
