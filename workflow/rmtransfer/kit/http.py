"""Patience with servers: a request that failed for now is sent again, ever more slowly."""

import random
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

import tenacity
import urllib3

# What a server answers when the same request may do better later (RFC 9110; 529: overloaded).
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
LONGEST_PAUSE = 600.0  # seconds, whatever the server asks for
_JITTER = 1.25  # the longest pause to the shortest: requests that failed together do not come back together

T = TypeVar("T")


class TransientError(Exception):
    """A request failed in a way that passes.

    Attributes:
        pause: seconds that the server asks to wait; None where it names none.
    """

    def __init__(self, trouble: object, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(trouble)
        self.pause = _asked_to_wait(headers or {})


class StoppedError(Exception):
    """Nobody wants an answer any more."""


def patiently(
    request: Callable[[], T], *, attempts: int, first_pause: float, stopped: threading.Event | None = None
) -> T:
    """What ``request`` returns, which is called again for as long as it raises :class:`TransientError`.

    Args:
        attempts: how often in all.
        first_pause: seconds; doubles with each attempt. A server that says how long to wait is waited for so long.
        stopped: once set, nothing is sent any more, and a pause ends at once.

    Raises:
        TransientError: of the last attempt.
        StoppedError: ``stopped`` was set first.
    """
    stopped = stopped or threading.Event()
    growing = tenacity.wait_exponential(first_pause)

    def pause(state: tenacity.RetryCallState) -> float:
        problem = state.outcome.exception() if state.outcome else None
        asked = problem.pause if isinstance(problem, TransientError) else None
        return min(LONGEST_PAUSE, asked or growing(state) * random.uniform(1, _JITTER))

    def sleep(seconds: float) -> None:
        if stopped.wait(seconds):
            raise StoppedError

    sleep(0)
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        stop=tenacity.stop_after_attempt(attempts),
        wait=pause,
        sleep=sleep,
        reraise=True,
    )(request)


def _asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After (RFC 9110, section 10.2.3) names, as a number or as a date."""
    try:
        return urllib3.Retry().parse_retry_after(headers.get("Retry-After", ""))
    except urllib3.exceptions.InvalidHeader:
        return None
