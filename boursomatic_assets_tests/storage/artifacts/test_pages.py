"""Reports and trace pages that nobody needs any more."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from boursomatic_assets.storage.artifacts.files import write_whole
from boursomatic_assets.storage.artifacts.pages import expired_reports, expired_traces, time_of_id
from boursomatic_assets.storage.postgres.database import id_prefix
from boursomatic_assets_tests.support.catalog import FILLED, rows, run

if TYPE_CHECKING:
    from upath import UPath

    from boursomatic_assets.storage.postgres.database import Database

LIMIT = datetime(2026, 3, 1)  # noqa: DTZ001 (UTC, as the tables keep it)
OLD, KEPT, NEW = "20260228_235959_aaaaaa", "20260227_000000_aaaaaa", "20260301_000001_aaaaaa"


def test_reports_of_old_versions_without_a_bundle_expire(root: UPath) -> None:
    assert expired_reports(root, LIMIT, []) == []
    for version in (OLD, KEPT, NEW, "mine"):
        write_whole(root / "reports" / version / "report.html", b"page")
    write_whole(root / "reports" / "report.html", b"newest")
    write_whole(root / "models" / KEPT / "manifest.json", b"{}")
    assert [path.name for path in expired_reports(root, LIMIT, [])] == [OLD]
    assert [path.name for path in expired_reports(root, LIMIT, [KEPT, NEW])] == [KEPT, OLD]


def test_pages_of_removed_recommendations_expire(database: Database, root: UPath) -> None:
    assert expired_traces(database, root, LIMIT) == []
    run(database, FILLED)
    stored = str(rows(database, "SELECT id::text FROM recommendations LIMIT 1")[0][0])
    # 2026-02-28 23:59:59 UTC is 1,772,323,199 s after 1970, in milliseconds 0x019ca6b1d818.
    old, new = "019ca6b1-d818-4000-8000-000000000000", f"{id_prefix()}-4000-8000-000000000000"
    for name in (stored, old, new, "notes"):
        write_whole(root / "traces" / f"{name}.html", b"page")
    assert str(time_of_id(old)) == "2026-02-28 23:59:59"
    assert time_of_id("notes") is None
    assert [path.name for path in expired_traces(database, root, datetime(9999, 1, 1))] == sorted(  # noqa: DTZ001
        [f"{old}.html", f"{new}.html"]
    )
    assert [path.name for path in expired_traces(database, root, LIMIT)] == [f"{old}.html"]
