"""Commands killed (kill -9) at random moments: nothing is lost, twice or half done, and the next command succeeds.

A folder keeps homes, prices and results, so that interrupted kills go on where they ended.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
import psutil
from pydantic import BaseModel, Field

from benchmarks.bar_events import sample_prices
from benchmarks.forked import QUIET, begun, ended, kill
from benchmarks.guarantees import (
    MOST,
    UNTOLD,
    Stored,
    broken_files,
    broken_models,
    digests,
    half_done,
    holds_bars,
    lost,
    twice,
    unpruned,
)
from benchmarks.homes import entered, environment_at
from benchmarks.killed_trainings import RETRAIN
from boursomatic_assets.errors import BackupError
from boursomatic_assets.settings import Settings
from boursomatic_assets.storage.artifacts.archive import opened_archive, verified_contents
from boursomatic_assets.storage.artifacts.files import new_file
from boursomatic_assets.storage.postgres.database import Database
from boursomatic_assets.storage.postgres.model_events import events_of, never_active
from boursomatic_assets.storage.postgres.model_table import list_versions
from boursomatic_assets.storage.server.embedded import database_url, stop
from boursomatic_assets.storage.server.process import data_folder, postmaster

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEED = 42
SESSIONS = 400
# Sessions of the sample after the first delivery: no more deliveries than these.
LEFT_OUT = 2500
# Whatever changes the database or the artifacts, in the order in which each gives the next something to do.
KINDS = ("ingest", "features", "training", "promotion", "recommending", "backup", "restore", "prune")
# Share of kills that also kill the embedded server, as a machine that stops would.
SERVER_SHARE = 0.2
# Half of the moments lie in the last part of a command, in which most is written.
LAST_PART = 0.6
MOST_SAID = 600


class KilledCommands(BaseModel):
    """Results of killed commands, kept between two calls.

    `begun` counts commands that were to be killed; some end before. `kills` are those that were, by kind, and
    `servers` how often the server was killed too. `deliveries` counts files of prices. `seconds` of each kind are
    those of its last undisturbed run.
    """

    begun: int = 0
    deliveries: int = 0
    kills: Counter[str] = Field(default_factory=Counter)
    servers: int = 0
    seconds: dict[str, float] = Field(default_factory=dict)
    broken: list[str] = Field(default_factory=list)


def kill_commands(kills: int, folder: Path, advance: Callable[[], object], seed: int = SEED) -> KilledCommands:
    """Kill commands in homes below a folder until there are `kills` in all; `advance` is called after each.

    Each command is then run again to its end. Results are written after each kill.
    """
    kept = folder / "results.json"
    result = KilledCommands.model_validate_json(kept.read_bytes()) if kept.exists() else KilledCommands()
    storm = _Storm(folder, result)
    for _ in range(min(result.kills.total(), kills)):
        advance()
    try:
        with entered(environment_at(storm.home, QUIET)):
            if not result.seconds:
                storm.prepare()
            while result.kills.total() < kills:
                if storm.kill_next(seed):
                    advance()
                with new_file(kept) as beside:
                    beside.write_text(result.model_dump_json(indent=1))
    finally:
        stop(storm.settings)
    return result


class _Storm:
    """Two homes, the second for restored backups, and a folder each for prices, backups and temporary files."""

    def __init__(self, folder: Path, result: KilledCommands) -> None:
        self.result, self.home, self.restored = result, folder / "home", folder / "restored"
        self.backups, self.temporary = folder / "backups", folder / "tmp"
        self.prices, self.said = folder / "prices.parquet", folder / "said.txt"
        for place in (self.backups, self.temporary):
            place.mkdir(exist_ok=True, parents=True)
        self.environment = environment_at(self.home, {**QUIET, "TMPDIR": str(self.temporary)})
        self.settings = Settings.from_environment(self.environment)

    @property
    def backup(self) -> Path:
        return self.backups / "backup.tar"

    def database(self) -> Database:
        """The database of the first home; its server is started if it was killed."""
        return Database(database_url(self.settings))

    def prepare(self) -> None:
        """Two versions, and recommendations of the first."""
        # The first command waits for the imports of the process that all are forked from.
        ended(begun("--help"))
        for kind in ("ingest", "features", "training", "recommending", "training", "backup"):
            self._run_to_its_end(kind, self._command(kind), self.result.broken)

    def kill_next(self, seed: int) -> bool:
        """Kill one command and run it again; returns whether it had not ended before it was killed."""
        number, result = self.result.begun, self.result
        # A command that ended too early is begun again.
        kind = KINDS[result.kills.total() % len(KINDS)]
        moment, kills_server = _chances(f"{seed}/{number}")
        self._clear(kind)
        command, before = self._command(kind), Stored.read(self.database())
        started = time.monotonic()
        process = begun(*command, environment=self._environment(kind), said=self.said)
        process.join(moment * result.seconds.setdefault(kind, 1.0))
        took = time.monotonic() - started
        result.begun += 1
        if not kill(process):
            result.seconds[kind] = took
            result.broken += [f"{kind} ended with {process.exitcode}"] if process.exitcode else []
            return False
        result.kills[kind] += 1
        if kills_server:
            _kill_server(self.home)
            result.servers += 1
        between = Stored.read(self.database())
        broken = [*lost(before, between), *self._broken(kind), *self._broken_backup(kind)]
        self._run_to_its_end(kind, command, broken)
        after = Stored.read(self.database())
        broken += [*half_done(before, between, after), *lost(between, after), *self._broken()]
        broken += self._unfinished(kind, command, before, after)
        result.broken += [f"kill {number} of {kind} at {moment:.2f}: {what}" for what in broken]
        return True

    def _clear(self, kind: str) -> None:
        """Remove what an undisturbed backup or restore made."""
        if kind == "backup":
            self.backup.unlink(missing_ok=True)
        if kind == "restore" and self.restored.exists():
            stop(self._restored_settings())
            shutil.rmtree(self.restored)

    def _bring_prices(self) -> None:
        """Each delivery has one more session, and another volume of one early bar."""
        count = self.result.deliveries
        bars = sample_prices(SESSIONS + count, left_out=LEFT_OUT - count).sort("symbol", "session")
        changed = pl.int_range(pl.len()) < count
        with new_file(self.prices) as beside:
            bars.with_columns(volume=pl.when(changed).then(pl.col("volume") + 1).otherwise("volume")).write_parquet(
                beside
            )
        self.result.deliveries += 1

    def _command(self, kind: str) -> tuple[str, ...]:
        """What is killed and run again; of a new delivery of prices, or another version, each time."""
        if kind == "promotion":
            return ("models", "activate", self._former_version())
        if kind == "ingest":
            self._bring_prices()
        files = ("--provider", "files", "--path", str(self.prices))
        commands = {
            "ingest": ("materialize", "--select", "instruments,price_bars", *files),
            "features": ("materialize", "--select", "features"),
            # Every second one is of a shorter history, and refused: the next prune removes its bundle.
            "training": (*RETRAIN, "--lookback-days", ("2000", "400")[self.result.kills["training"] % 2]),
            "recommending": ("materialize", "--select", "recommendations,outcomes"),
            "backup": ("backup", str(self.backup)),
            "restore": ("restore", str(self.backup)),
            "prune": ("models", "prune", "--keep", "0", "--yes"),
        }
        return commands[kind]

    def _former_version(self) -> str:
        """The newest version that was active and is not."""
        database = self.database()
        with database.connection() as connection:
            unused = never_active(events_of(connection))
        rows = list_versions(database, MOST)
        return next(row.version for row in rows if not row.is_active and row.version not in unused)

    def _environment(self, kind: str) -> dict[str, str]:
        return {**self.environment, "BOURSOMATIC_HOME": str(self.restored if kind == "restore" else self.home)}

    def _run_to_its_end(self, kind: str, command: tuple[str, ...], broken: list[str]) -> None:
        if kind == "backup":
            self.backup.unlink(missing_ok=True)
        started = time.monotonic()
        if code := ended(begun(*command, environment=self._environment(kind), said=self.said)):
            said = " ".join(self.said.read_text(errors="replace").split())[-MOST_SAID:]
            broken.append(f"the next one ended with {code}: {said}")
        self.result.seconds[kind] = time.monotonic() - started

    def _broken(self, killed: str = "") -> list[str]:
        """What is never the case, whether a command was killed or not."""
        database, artifacts = self.database(), self.home / "artifacts"
        broken = [*twice(database), *broken_files(artifacts), *broken_models(database, artifacts / "models")]
        # The log of a killed prune is completed by the next one.
        return [what for what in broken if not (killed == "prune" and what.endswith(UNTOLD))]

    def _broken_backup(self, kind: str) -> list[str]:
        """A file of its final name is a whole backup."""
        if kind == "backup" and self.backup.exists():
            try:
                with opened_archive(self.backup) as archive:
                    verified_contents(archive)
            except BackupError as error:
                return [f"the killed backup is not whole: {error}"]
        return []

    def _unfinished(self, kind: str, command: tuple[str, ...], before: Stored, after: Stored) -> list[str]:
        """What the command should have reached in the end, and what it left behind."""
        database, found = self.database(), []
        if kind == "ingest":
            delivered = pl.read_parquet(self.prices)
            found += [] if holds_bars(database, delivered) else ["the bars are not those of the file"]
            changes = len(after.rows["bar_changes"] - before.rows["bar_changes"])
            found += [] if changes == 1 else [f"one bar was changed, {changes} changes are recorded"]
        elif kind == "features":
            bars, features = (set(after.contents[table]) for table in ("price_bars", "features"))
            found += [] if bars == features else [f"no features of {sorted(bars - features)}"]
        elif kind == "promotion":
            events = len(after.rows["model_events"] - before.rows["model_events"])
            is_as_asked = after.active == command[-1] and events == 1
            found += [] if is_as_asked else [f"{after.active} is active, {events} events are recorded"]
        elif kind == "restore":
            found += self._broken_restoration(database)
        elif kind == "backup":
            found += self._broken_backup(kind)
        elif kind == "prune":
            found += unpruned(database, self.home / "artifacts/models")
        return found + [
            f"{path.relative_to(place.parent)} was left behind"
            for place in (self.temporary, self.backups)
            for path in place.iterdir()
            if path != self.backup
        ]

    def _restored_settings(self) -> Settings:
        return replace(self.settings, home=self.restored, artifacts_dir=str(self.restored / "artifacts"))

    def _broken_restoration(self, database: Database) -> list[str]:
        """Compare the restored home with the one of its backup, and remove it."""
        settings = self._restored_settings()
        try:
            expected, restored = digests(database), digests(Database(database_url(settings)))
        finally:
            stop(settings)
        different = [table for table in expected if restored.get(table) != expected[table]]
        broken = [f"{table} is not as it was" for table in different]
        broken += broken_files(self.restored / "artifacts")
        shutil.rmtree(self.restored)
        return broken


def _chances(seed: str) -> tuple[float, bool]:
    """When to kill a command, as a part of its time, and whether to kill the server too."""
    chance = random.Random(seed)  # noqa: S311 (moments, not secrets)
    part, is_last = chance.random(), chance.random() < 1 / 2
    return (1 - LAST_PART * part if is_last else part), chance.random() < SERVER_SHARE


def _kill_server(home: Path) -> None:
    """Kill the embedded server with all its processes."""
    server = postmaster(data_folder(home))
    if server is None:
        return
    processes = [server, *server.children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes)
