"""Ends the processes that `boursomatic dev` started once that one is gone, also after a kill -9.

A program of its own, which imports nothing of the platform. Its standard input is a pipe that only
`boursomatic dev` holds at the other end: when that process ends, however it does, the pipe ends. Lines name process
groups: `+123` one that was started, `-123` one of which nothing is left.

With arguments it is instead what a started process begins as: it waits for one line, which says that its group was
named here, and then becomes the program that the arguments name.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from typing import TextIO

ENDING_SECONDS, KILLED_SECONDS = 10.0, 5.0


def groups_left(lines: TextIO) -> set[int]:
    """Read until the pipe ends; returns the groups that are to be ended."""
    groups: set[int] = set()
    for line in lines:
        # A line that was cut off names another number.
        if line.endswith("\n"):
            number = int(line[1:])
            (groups.add if line.startswith("+") else groups.discard)(number)
    return groups


def end(groups: set[int]) -> None:
    """Ask all processes of the groups to end, as Ctrl-C does, and kill what is left after a while."""
    for number, seconds in ((signal.SIGINT, ENDING_SECONDS), (signal.SIGKILL, KILLED_SECONDS)):
        latest = time.monotonic() + seconds
        for group in groups:
            with suppress(ProcessLookupError):
                os.killpg(group, number)
        while any(map(is_left, groups)) and time.monotonic() < latest:
            time.sleep(0.1)


def is_left(group: int) -> bool:
    """Whether a process of the group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Its number is somebody else's by now.
        return False
    return True


def main(command: list[str]) -> None:
    """Become the command after a line was read, or watch."""
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
