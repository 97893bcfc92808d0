"""Acting as another user of the machine, which only root can."""

from __future__ import annotations

import os
import pickle
import pwd
import warnings
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can act as another user")
NOBODY = pwd.getpwnam("nobody")


def as_nobody(action: Callable[[], object]) -> object:
    """What an action returns, or the exception that it raises, in a process of the user `nobody`."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # The copy runs this function and nothing of the threads that libraries keep.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            os.setgroups([])
            os.setgid(NOBODY.pw_gid)
            os.setuid(NOBODY.pw_uid)
            found = action()
        except BaseException as error:  # noqa: BLE001 (it is the answer)
            found = type(error)(str(error))
        with os.fdopen(writing, "wb") as answer:
            pickle.dump(found, answer)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        content = answer.read()
    os.waitpid(child, 0)
    return pickle.loads(content)  # noqa: S301 (of this very process)
