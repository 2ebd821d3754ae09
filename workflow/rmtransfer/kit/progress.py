"""Tell the user how far a job is: step counts on the terminal, everything in the log."""

import atexit
import contextlib
import gc
import os
import resource
import sys
import time
import traceback
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rmtransfer.kit.damage import explained
from rmtransfer.kit.errors import StudyError

_EVERY_SECONDS = 5.0
# Allocations between two collections of garbage. Python's own number makes imports and a tokenizer's 33 MB of JSON take 1.4
# times as long; what a job keeps is tensors, few objects of Python's.
_COLLECT = (100_000, 50, 50)
_terminal: TextIO | None = None
_job = ""


def start_job(job: str, log: str | Path, folder: Path, inputs: Iterable[str | Path] = ()) -> None:
    """Send everything this process prints, native libraries included, to ``log``; keep the terminal for progress.

    Called first thing in every script, before the heavy imports, so that their tracebacks land in the log too.

    Args:
        folder: of the study's results.
        inputs: what the job reads, to be looked at where it fails.
    """
    global _terminal, _job
    _job = job
    gc.set_threshold(*_COLLECT)
    _terminal = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace")
    sys.excepthook = partial(_report_failure, folder, list(map(Path, inputs)))
    file = open(log, "w", buffering=1, encoding="utf-8")  # noqa: SIM115 (open until the process ends)
    for descriptor in (1, 2):
        os.dup2(file.fileno(), descriptor)
    sys.stdout = sys.stderr = file
    atexit.register(_note_cost, time.monotonic())
    report("started")


def _note_cost(began: float) -> None:
    """What the job took, into its log: ``benchmarks/where_time_goes.py`` reads it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    with contextlib.suppress(OSError):
        print(
            f"{time.strftime('%H:%M:%S')} took {time.monotonic() - began:.1f} s, {used.ru_utime + used.ru_stime:.1f} CPU s, "
            f"{used.ru_maxrss / 1024:.0f} MB at most"
        )


def report(message: str) -> None:
    """One line on the terminal and in the log."""
    line = f"[{_job}] {message}" if _job else message
    if _terminal is not None:
        print(line, file=_terminal, flush=True)
    print(time.strftime("%H:%M:%S"), line, flush=True)


def _report_failure(
    folder: Path,
    inputs: list[Path],
    kind: type[BaseException],
    problem: BaseException,
    trace: TracebackType | None,
) -> None:
    with contextlib.suppress(OSError):  # a full disk may have no room for it
        traceback.print_exception(kind, problem, trace)
    if isinstance(problem, KeyboardInterrupt):
        return
    with contextlib.suppress(OSError):
        _say_why(kind, problem, explained(problem, folder, inputs))


def _say_why(kind: type[BaseException], problem: BaseException, disk: str | None) -> None:
    if disk is not None:
        report(f"ERROR: {disk}")
    elif isinstance(problem, StudyError):
        report(f"ERROR: {problem}")
    elif isinstance(problem, MemoryError) or "out of memory" in str(problem).lower():
        report(f"ERROR: out of memory ({problem}); lower resources.tokens_per_batch in the config and run again")
    else:
        report(
            f"ERROR: {kind.__name__}: {problem}\nThis is not a message we foresaw: the traceback is in the job's log, "
            "named below. Mend the cause and run the same command again; finished jobs are kept."
        )


class Progress:
    """Counts work done and reports it every few seconds with the speed and the time left."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0
        self.began = time.monotonic()
        self._reported = self.began

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count ``amount`` more units; ``note`` is shown with the next report."""
        self.done += amount
        now = time.monotonic()
        if self.done < self.total and now - self._reported < _EVERY_SECONDS:
            return
        self._reported = now
        seconds = max(now - self.began, 1e-9)
        left = (self.total - self.done) * seconds / max(self.done, 1)
        tail = f", about {left:.0f} s left" if self.done < self.total else f", {seconds:.1f} s"
        rate = self.done / seconds
        report(
            f"{self.what}: {self.done:,}/{self.total:,} {self.unit} ({rate:,.1f} a second{tail})"
            + (f" {note}" if note else "")
        )
