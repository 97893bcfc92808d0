"""`dagster-webserver` behind the guard: `python -m boursomatic_assets.commands.webserver`, with its options.

`dev` as the first argument is `dagster dev` whose webserver is this one.
"""

import sys
from typing import TYPE_CHECKING, Any

from boursomatic_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from subprocess import Popen

MODULE = "boursomatic_assets.commands.webserver"


def serve() -> None:
    """Run `dagster-webserver` with the guard as its outermost layer."""
    from dagster_webserver import cli
    from dagster_webserver.webserver import DagsterWebserver
    from starlette.middleware import Middleware

    from boursomatic_assets.commands.web_guard import WebGuard, access_to

    host_ui, layers = cli.host_dagster_ui_with_workspace_process_context, DagsterWebserver.build_middleware

    # Where the host is known, from an option or from Dagster's own environment variable.
    def host_guarded_ui(context: Any, host: str | None, *rest: Any) -> None:  # noqa: ANN401 (handed on)
        access = access_to(host or "127.0.0.1")
        guarded = [Middleware(WebGuard, access=access)]
        DagsterWebserver.build_middleware = lambda self: [*guarded, *layers(self)]  # type: ignore[method-assign]
        host_ui(context, host, *rest)

    cli.host_dagster_ui_with_workspace_process_context = host_guarded_ui  # type: ignore[assignment]
    cli.main()  # type: ignore[no-untyped-call]


def develop() -> None:
    """Run `dagster dev` with the guarded webserver."""
    from dagster._cli import dev

    start = dev.open_ipc_subprocess  # type: ignore[attr-defined]

    def start_guarded(parts: list[str], **options: object) -> "Popen[bytes]":
        return start([MODULE if part == "dagster_webserver" else part for part in parts], **options)

    dev.open_ipc_subprocess = start_guarded  # type: ignore[attr-defined, assignment]
    dev.dev_command(sys.argv[2:], prog_name="dagster dev")


if __name__ == "__main__":
    try:
        develop() if sys.argv[1:2] == ["dev"] else serve()
    except ConfigurationError as error:
        sys.exit(f"Failed: {error}")
