"""The command `boursomatic report`: print the path of the report, and open it on request."""

import webbrowser
from typing import Annotated

import typer

from boursomatic_assets.commands.opening import console


def report(
    version: Annotated[
        str | None, typer.Argument(help="A model version; the newest report without one.", show_default=False)
    ] = None,
    *,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Show where the report is: one page that needs no network."""
    from upath import UPath

    from boursomatic_assets.errors import MissingArtifactError
    from boursomatic_assets.settings import Settings
    from boursomatic_assets.storage.artifacts.files import browser_url

    folder = UPath(Settings.from_environment().artifacts_dir) / "reports"
    path = folder / version / "report.html" if version else folder / "report.html"
    if not path.exists():
        message = f"there is no report at {path}; write one: boursomatic materialize --select report"
        raise MissingArtifactError(message)
    console.print(str(path), soft_wrap=True, markup=False, highlight=False)
    if open_it:
        webbrowser.open(browser_url(path) or str(path))
