"""The command line `boursomatic`: it registers the commands."""

import sys
import warnings

import typer

from boursomatic_assets.commands.adjustments import adjustments
from boursomatic_assets.commands.backup import backup, restore
from boursomatic_assets.commands.bench import bench
from boursomatic_assets.commands.database import db
from boursomatic_assets.commands.dev import dev
from boursomatic_assets.commands.experiments import experiments
from boursomatic_assets.commands.explain import explain
from boursomatic_assets.commands.materialize import materialize
from boursomatic_assets.commands.models import models
from boursomatic_assets.commands.notices import notices
from boursomatic_assets.commands.opening import errors
from boursomatic_assets.commands.prune import prune
from boursomatic_assets.commands.recommend import recommend
from boursomatic_assets.commands.recommendations import recommendations
from boursomatic_assets.commands.report import report
from boursomatic_assets.commands.settings import settings
from boursomatic_assets.commands.status import status
from boursomatic_assets.commands.trace import trace
from boursomatic_assets.commands.universe import universe
from boursomatic_assets.commands.verify import verify
from boursomatic_assets.core.market.fetch_report import printable
from boursomatic_assets.errors import BoursomaticError
from boursomatic_assets.storage.private import hide_from_others

# Dagster, polars and LightGBM are imported by the commands that need them: --help answers at once.

FAILED = 1

app = typer.Typer(
    help="Daily price bars to BUY / HOLD / SELL models that can be believed and traced.\n\n"
    "Start with: [bold]boursomatic materialize[/bold], then look around: [bold]boursomatic dev[/bold]",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Settings are environment variables, such as BOURSOMATIC_HOME and DATABASE_URL. "
    "List them all with their values: [bold]boursomatic settings[/bold]",
)
app.command()(materialize)
app.command()(dev)
app.command()(recommend)
app.command()(recommendations)
app.command()(explain)
app.command()(trace)
app.command()(report)
app.command()(verify)
app.command()(backup)
app.command()(restore)
app.command()(prune)
app.command()(status)
app.command()(bench)
app.command()(settings)
app.add_typer(universe, name="universe")
app.add_typer(adjustments, name="adjustments")
app.add_typer(models, name="models")
app.add_typer(experiments, name="experiments")
app.add_typer(notices, name="notices")
app.add_typer(db, name="db")


def main() -> None:
    """Run a command; on failure print one message and exit with 1, or 2 for wrong usage."""
    hide_from_others()
    # Warnings about Dagster's own internals, which users cannot fix.
    warnings.filterwarnings("ignore", message=r"(?s).*(currently in beta|is superseded|deprecated)")
    try:
        app()
    except Exception as error:
        if "--verbose" in sys.argv:
            raise
        errors.print("[bold red]Failed:[/bold red] ", end="")
        # A name in a message may hold signs that drive the terminal.
        shown = "\n".join(map(printable, _explain(error).splitlines()))
        errors.print(shown, markup=False, soft_wrap=True)
        sys.exit(FAILED)


def _explain(error: BaseException) -> str:
    """The message of our own errors; other errors with their type."""
    described = getattr(error, "description", None)
    if isinstance(error, BoursomaticError) or described:
        return described or str(error)
    return f"{type(error).__name__}: {error}\nSee the whole of it: add --verbose"
