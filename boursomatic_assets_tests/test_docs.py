"""What the pages of `docs/` and the README name is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

import boursomatic_assets

if TYPE_CHECKING:
    from boursomatic_assets.storage.postgres.database import Database

CHECKOUT = Path(boursomatic_assets.__file__).parent.parent
ARCHITECTURE = (CHECKOUT / "docs" / "architecture.md").read_text("utf-8")
TABLES = (CHECKOUT / "docs" / "tables.md").read_text("utf-8")
OWN_STATE = "boursomatic_assets_alembic_version"
# Views have no rule about null; their columns may carry the sign where the view cannot give one.
VIEWS = ("current_recommendations", "adjusted_bars")


def described() -> dict[str, dict[str, bool]]:
    """Columns of each table of the page, and whether it says that they are never null."""
    found: dict[str, dict[str, bool]] = {}
    for section in re.split(r"^### ", TABLES, flags=re.MULTILINE)[1:]:
        name, _, text = section.partition("\n")
        named = re.findall(r"^\| ((?:`\w+`(?: !)?(?:, )?)+) \|", text, flags=re.MULTILINE)
        found[name] = {column: bool(sign) for cell in named for column, sign in re.findall(r"`(\w+)`( !)?", cell)}
    return found


def test_the_page_of_tables_has_every_table_and_column_of_the_schema(database: Database) -> None:
    inspector = sa.inspect(database.engine)
    there = {*inspector.get_table_names(), *inspector.get_view_names()} - {OWN_STATE}
    assert set(described()) == there
    for table in sorted(there):
        columns = {column["name"]: not column["nullable"] for column in inspector.get_columns(table)}
        assert set(described()[table]) == set(columns), table
        if table not in VIEWS:
            assert described()[table] == columns, table


def test_files_that_the_architecture_names_are_there_and_hold_what_it_says() -> None:
    rows = re.findall(r"^\| .+ \| (`.+`) \| (`.+`) \|$", ARCHITECTURE, flags=re.MULTILINE)
    assert len(rows) > 8
    for functions, files in rows:
        sources = [path for name in re.findall(r"`([\w/.]+)`", files) for path in places(name)]
        text = "".join(path.read_text("utf-8") for path in sources if path.is_file())
        for function in re.findall(r"`(\w+)`", functions):
            assert f"def {function}(" in text, (function, files)


def test_the_tests_that_the_page_of_security_names_are_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (CHECKOUT / "docs" / "security.md").read_text("utf-8")))
    sources = (path.read_text("utf-8") for path in Path(__file__).parent.rglob("test_*.py"))
    assert len(named) > 20
    assert named <= {name for source in sources for name in re.findall(r"^def (test_\w+)\(", source, re.MULTILINE)}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([a-z_]+/[\w/.]*)`", ARCHITECTURE))))
def test_a_path_of_the_architecture_exists(name: str) -> None:
    assert all(path.exists() for path in places(name)), name


def places(name: str) -> list[Path]:
    """Where a path of the page lies: in the package, or beside it."""
    beside = CHECKOUT / name
    return [beside if beside.exists() else CHECKOUT / "boursomatic_assets" / name]


def test_links_of_the_pages_lead_to_files_of_the_repository() -> None:
    for page in (CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), (page.name, target)


def test_the_readme_fits_on_150_lines() -> None:
    assert len((CHECKOUT / "README.md").read_text("utf-8").splitlines()) <= 150
