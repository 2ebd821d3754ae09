"""Patience: growing pauses, the server's own wish under a ceiling, an end that comes at once when nobody waits."""

import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from rmtransfer.kit import http
from rmtransfer.kit.http import StoppedError, TransientError, patiently


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """What is waited, which takes no time here."""
    waited: list[float] = []

    class Event(threading.Event):
        def wait(self, timeout=None):
            waited.append(timeout)
            return super().wait(0)

    monkeypatch.setattr(http.threading, "Event", Event)
    return waited


def failing(times: int, headers=None):
    """A request that fails so often, and then returns how often it was sent."""
    sent = []

    def request() -> int:
        sent.append(1)
        if len(sent) <= times:
            raise TransientError(f"trouble {len(sent)}", headers)
        return len(sent)

    return request


def test_a_request_is_sent_again_after_growing_pauses(pauses):
    assert patiently(failing(4), attempts=5, first_pause=2.0) == 5
    assert pauses[0] == 0
    for number, pause in enumerate(pauses[1:]):
        assert 2 * 2**number <= pause <= 2 * 2**number * 1.25
    assert len(pauses) == 5


def test_requests_that_failed_together_do_not_come_back_together(pauses):
    for _ in range(20):
        patiently(failing(1), attempts=2, first_pause=1.0)
    assert len({pause for pause in pauses if pause}) == 20


def test_the_last_trouble_is_told(pauses):
    with pytest.raises(TransientError, match="trouble 3"):
        patiently(failing(3), attempts=3, first_pause=1.0)
    assert len(pauses) == 1 + 2  # nobody waits after the last attempt


def test_what_does_not_pass_is_not_sent_again(pauses):
    sent = []

    def request() -> None:
        sent.append(1)
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        patiently(request, attempts=5, first_pause=1.0)
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("header", "shortest", "longest"),
    [
        ("7", 7, 7),
        (lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True), 85, 90),
        ("86400", 600, 600),
        ("0", 1, 1.25),
        ("-1", 1, 1.25),
        ("soon", 1, 1.25),
        ("", 1, 1.25),
        (lambda: format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True), 1, 1.25),
    ],
    ids=["seconds", "a date", "a day", "0", "-1", "a word", "empty", "a date gone by"],
)
def test_the_server_says_how_long_to_wait(pauses, header, shortest, longest):
    patiently(failing(1, {"Retry-After": header() if callable(header) else header}), attempts=2, first_pause=1.0)
    assert shortest <= pauses[1] <= longest


def test_no_pause_of_ours_is_longer_than_the_longest(pauses):
    patiently(failing(13), attempts=14, first_pause=1.0)
    assert max(pauses) == http.LONGEST_PAUSE


def test_who_is_stopped_sends_nothing_more():
    stopped = threading.Event()
    threading.Timer(0.2, stopped.set).start()
    request = failing(9)
    began = time.monotonic()
    with pytest.raises(StoppedError):
        patiently(request, attempts=9, first_pause=60.0, stopped=stopped)
    assert time.monotonic() - began < 10
    sent = []
    with pytest.raises(StoppedError):
        patiently(lambda: sent.append(1), attempts=9, first_pause=60.0, stopped=stopped)
    assert sent == []
