"""Rate limit, retries and circuit breaker for network sources."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from boursomatic_assets.errors import SourceFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import RetryCallState

# If a source asks for a longer wait, its symbols go to the next source.
LONGEST_WAIT = 60.0

_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500
_T = TypeVar("_T")


class PassingFailureError(SourceFailedError):
    """A temporary failure; `retry_after` is the wait in seconds that the source asks for, or 0.0."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Pace:
    """Rate limiter for the requests of all threads to one source.

    `pause` waits for a number of seconds; `clock` returns seconds since any moment.
    """

    def __init__(
        self,
        requests_per_second: float,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = 1.0 / requests_per_second
        self._pause, self._clock = pause, clock
        self._lock = threading.Lock()
        self._next_turn = 0.0

    def take_turn(self) -> None:
        """Wait until the next request may be sent."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next_turn)
            self._next_turn = turn + self._interval
        if turn > now:
            self._pause(turn - now)

    def heed(self, status: int, retry_after: str | None) -> None:
        """Raise PassingFailureError for 429 or 5xx; `Retry-After` delays all threads, up to `LONGEST_WAIT`."""
        if status != _TOO_MANY_REQUESTS and status < _SERVER_ERROR:
            return
        asked = _seconds_asked(retry_after)
        with self._lock:
            self._next_turn = max(self._next_turn, self._clock() + min(asked, LONGEST_WAIT))
        later = f" and asks to wait {asked:.0f} s" if asked else ""
        message = f"answered {status}{later}"
        raise PassingFailureError(message, asked)


def _seconds_asked(header: str | None) -> float:
    """Seconds in a `Retry-After` header, which is a number or a date; 0.0 for other texts."""
    text = (header or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max((moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)


@dataclass(frozen=True)
class RetryPolicy:
    """Retry policy for one symbol at one source.

    `attempts` counts all attempts. The wait before the second attempt is `first_wait` seconds and doubles for each
    further one; up to `first_wait` seconds of jitter are added. `pause` waits for a number of seconds.
    """

    attempts: int = 4
    first_wait: float = 1.0
    pause: Callable[[float], None] = time.sleep

    def call(self, attempt: Callable[[], _T]) -> _T:
        """Call `attempt`, and retry after temporary failures; raises the error of the last attempt."""
        from tenacity import Retrying, retry_if_exception, stop_after_attempt

        retrying = Retrying(
            stop=stop_after_attempt(self.attempts),
            wait=self._seconds,
            retry=retry_if_exception(_may_pass_soon),
            sleep=self.pause,
            reraise=True,
        )
        return retrying(attempt)

    def _seconds(self, state: RetryCallState) -> float:
        from tenacity import wait_exponential_jitter

        backoff = wait_exponential_jitter(initial=self.first_wait, max=LONGEST_WAIT, jitter=self.first_wait)
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, PassingFailureError) else 0.0
        return max(backoff(state), asked)


def _may_pass_soon(error: BaseException) -> bool:
    return isinstance(error, PassingFailureError) and error.retry_after <= LONGEST_WAIT


class CircuitBreaker:
    """Circuit breaker: opens after `failures` failed symbols in a row; any other outcome resets the count."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self._in_a_row = 0

    def note(self, *, failed: bool) -> None:
        """Count the outcome of one symbol."""
        self._in_a_row = self._in_a_row + 1 if failed else 0

    @property
    def is_open(self) -> bool:
        """Whether the source counts as down."""
        return self._in_a_row >= self.failures
