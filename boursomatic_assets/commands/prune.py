"""The command `boursomatic prune`: apply the retention policy."""

from typing import Annotated

import typer

from boursomatic_assets.commands.opening import console, errors, login, open_database, print_json


def prune(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Remove what has expired; without it, only list it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The list as JSON.")] = False,
) -> None:
    """Remove what the retention policy no longer keeps: recommendations, changes of bars, runs, logs, bundles.

    Without --yes nothing is removed, and the table shows what would be. What an active version, a version that was
    ever active, or a recommendation without an outcome needs is kept: everything that stays can be traced and
    verified. The windows are the settings BOURSOMATIC_KEEP_…: boursomatic settings

    The schedule `daily_prune` of boursomatic dev does the same every night. It may run beside trainings, and may be
    interrupted and started again.

    For example:

      boursomatic prune

      BOURSOMATIC_KEEP_RUNS=10 boursomatic prune --yes
    """
    from dataclasses import asdict

    from upath import UPath

    from boursomatic_assets.display.terminal.expired import expired_table
    from boursomatic_assets.services.retention.prune import Place
    from boursomatic_assets.services.retention.prune import prune as apply_policy
    from boursomatic_assets.settings import Retention
    from boursomatic_assets.storage.dagster.instance import is_own, open_instance
    from boursomatic_assets.storage.postgres.expired_rows import database_clock

    policy = Retention.from_environment()
    settings, database = open_database()
    with errors.status("Looking for what has expired") as status, open_instance(settings, database) as instance:
        root = UPath(settings.artifacts_dir)
        own = instance if is_own(instance, settings) else None
        place = Place(database, root, own, policy, database_clock(database))
        found = apply_policy(place, who=login(), remove=yes, note=status.update)
    if as_json:
        print_json({"removed": yes, "expired": [asdict(each) for each in found]})
        return
    console.print(expired_table(found, removed=yes))
    if not any(each.count for each in found):
        console.print("Nothing has expired.")
    elif yes:
        console.print("Removed. The database uses the freed space again; the files themselves do not shrink.")
    else:
        console.print("Nothing was removed. To remove it: [bold]boursomatic prune --yes[/bold]")
