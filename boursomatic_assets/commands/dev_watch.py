"""Ends the processes that `boursomatic dev` started once that process is gone, even after kill -9.

This program imports nothing of the platform. Its standard input is a pipe whose other end only `boursomatic dev`
holds, so that the pipe ends with that process. Lines name process groups: `+123` was started, `-123` has ended.

With arguments it waits for one line, which says that its group is registered, and then becomes the given program.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from typing import TextIO

ENDING_SECONDS, KILLED_SECONDS = 10.0, 5.0


def groups_left(lines: TextIO) -> set[int]:
    """Process groups still registered when the pipe ends."""
    groups: set[int] = set()
    for line in lines:
        # A line without its end may lack digits.
        if line.endswith("\n"):
            number = int(line[1:])
            (groups.add if line.startswith("+") else groups.discard)(number)
    return groups


def end(groups: set[int]) -> None:
    """Ask all processes of the groups to end, as Ctrl-C does; kill the remaining ones after a timeout."""
    for number, seconds in ((signal.SIGINT, ENDING_SECONDS), (signal.SIGKILL, KILLED_SECONDS)):
        latest = time.monotonic() + seconds
        for group in groups:
            with suppress(ProcessLookupError):
                os.killpg(group, number)
        while any(map(is_left, groups)) and time.monotonic() < latest:
            time.sleep(0.1)


def is_left(group: int) -> bool:
    """Whether a process of the group exists."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # The number now belongs to another user's process.
        return False
    return True


def main(command: list[str]) -> None:
    """Read a line, then become the command; without a command, watch."""
    if command:
        if not os.read(0, 1):
            sys.exit(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.execv(command[0], command)  # noqa: S606 (the command that boursomatic dev gave)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end(groups_left(sys.stdin))


if __name__ == "__main__":
    main(sys.argv[1:])
