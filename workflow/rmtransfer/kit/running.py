"""One run of a study at a time, and nothing that a killed one started works on.

A run holds a lock (flock) on a file of the study for as long as its process lives, however that ends, and writes into the
file who it is. Its jobs hold a shared lock on a second file, and end when their run is gone: what they write the next run
would take for unfinished, and write itself. Snakemake's own lock is made of files that a killed run leaves behind; whether
such a run lives is read from these two. On a file system without locks the process that the first file names decides.
"""

import contextlib
import errno
import fcntl
import functools
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

from rmtransfer.kit.damage import explained
from rmtransfer.kit.devices import held
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.files import links_in
from rmtransfer.kit.progress import report

_RUN = "RMTRANSFER_RUN"  # tells jobs whose they are
_PATIENCE_SECONDS = 3.0
_POLL_SECONDS = 0.5
_mine: set[Path] = set()


class Owner(NamedTuple):
    """A process that runs, or ran, a study.

    Attributes:
        pid: its number.
        born: when it was started, as the kernel counts: its number may be another's by now.
        machine: the running system that the number means something in.
        host: that system's name.
        since: when the run began, to be read.
    """

    pid: int
    born: str
    machine: str
    host: str
    since: str

    @classmethod
    def me(cls) -> Self:
        """This process."""
        return cls(os.getpid(), _born(os.getpid()), _machine(), platform.node(), time.strftime("%Y-%m-%d %H:%M:%S"))

    @classmethod
    def read(cls, text: str) -> Self | None:
        """What :meth:`written` wrote; None for anything else, such as an empty file."""
        fields = text.rstrip("\n").split("\t")
        if len(fields) != len(cls._fields) or not fields[0].isdecimal():
            return None
        return cls(int(fields[0]), *fields[1:])

    def written(self) -> str:
        """One line."""
        return "\t".join(map(str, self)) + "\n"

    def lives(self) -> bool | None:
        """Whether it is there still; None where that cannot be seen from this machine."""
        if self.machine == _machine():
            return _born(self.pid) == self.born != ""
        return False if self.host == platform.node() else None  # this machine was started again since

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


@contextlib.contextmanager
def only_run(folder: Path, locks: Path, say: Callable[[str], object]) -> Iterator[None]:
    """Be the one run of a study; what a run that was killed left is named and removed.

    Args:
        folder: of the study's results.
        locks: folder of Snakemake's lock files.
        say: is told, in one line each, of what was found.

    Raises:
        StudyError: another run is at work or may be, or nothing can be written there.
    """
    here = folder.resolve()
    if here in _mine:  # a Snakefile that this process reads twice
        yield
        return
    owner = Owner.me()
    path = folder / ".work/run"
    try:
        locks.mkdir(parents=True, exist_ok=True)  # another study's run removes it when it ends
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as problem:
        raise StudyError(
            explained(problem, folder, ())
            or f"{folder}: cannot be written to ({problem.strerror}); have its owner give you the right, or start from a folder "
            "of your own"
        ) from None
    try:
        before = Owner.read(os.read(file, 4096).decode("utf-8"))
        locked = _locked(file)
        if locked is False or (before and before.lives()):
            raise StudyError(
                f"{folder}: another run is at work on it ({before or 'it has not said which'}); wait until it has ended, or "
                "stop it and give the same command again"
            )
        if locked is None:
            say(f"{folder}: no file can be locked there; whether another run is at work is read from {path}")
        left = locks_on(folder, locks)
        if before and left:
            if before.lives() is None:
                raise StudyError(
                    f"{folder}: a run on another machine has not ended as it should ({before}), and from here nobody can see "
                    "whether it is still at work; if it is not: snakemake --unlock, then the same command again"
                )
            say(f"{folder}: the lock of a run that was killed ({before}) is removed")
            for lock in left:
                lock.unlink(missing_ok=True)
        _wait_for_jobs(folder, say)
        if not links_in(path.parent):
            say(f"{folder}: no hard links there; what is shared elsewhere, such as a base model's weights, is copied")
        try:
            _rewrite(file, owner.written())
        except OSError as problem:
            raise StudyError(explained(problem, folder, ()) or str(problem)) from None
        _mine.add(here)
        os.environ[_RUN] = owner.written()
        try:
            yield
        finally:
            _mine.discard(here)
            os.environ.pop(_RUN, None)
            _rewrite(file, "")
    finally:
        os.close(file)


def describe(folder: Path, locks: Path) -> str | None:
    """What a dry run says of Snakemake's locks on a study's files; None where there are none."""
    if not locks_on(folder, locks):
        return None
    with contextlib.suppress(OSError):
        owner = Owner.read((folder / ".work/run").read_text(encoding="utf-8"))
        if owner and owner.lives() is False:
            return f"{folder}: a run was killed ({owner}); the next one removes its lock"
        if owner:
            return f"{folder}: another run is at work on it ({owner})"
    return f"{folder}: locked by a run that has not said which it is"


def locks_on(folder: Path, locks: Path) -> list[Path]:
    """Snakemake's lock files that name a file of a study: those of other studies lie beside them."""
    return [
        path
        for path in locks.glob("*.lock")
        if any(line.startswith(f"{folder}/") for line in path.read_text(encoding="utf-8").splitlines())
    ]


def join_run(folder: Path) -> None:
    """Have this job be waited for by the next run, and end when its own run is gone; where there is a run that says so.

    Args:
        folder: of the study's results.
    """
    owner = Owner.read(os.environ.get(_RUN, ""))
    if owner is None:
        return
    with contextlib.suppress(OSError):  # without locks nobody waits
        file = os.open(folder / ".work/jobs", os.O_RDWR | os.O_CREAT, 0o666)
        held.append(file)
        fcntl.flock(file, fcntl.LOCK_SH)
    if owner.machine != _machine():  # on another machine it ends as its queue wants
        return
    if not owner.lives():
        _end(owner)

    def watch() -> None:
        while owner.lives():
            time.sleep(_POLL_SECONDS)
        _end(owner)

    threading.Thread(target=watch, daemon=True).start()


def _end(owner: Owner) -> None:
    with contextlib.suppress(OSError):
        report(f"the run that started this job is gone ({owner}), and so is this job")
    os._exit(1)


def _wait_for_jobs(folder: Path, say: Callable[[str], object]) -> None:
    with contextlib.suppress(OSError), (folder / ".work/jobs").open("a") as jobs:
        try:
            fcntl.flock(jobs, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(2 * _POLL_SECONDS)
            if _locked(jobs.fileno()) is False:
                say(f"{folder}: waiting for jobs of a run that was killed; on a cluster, cancel them")
                fcntl.flock(jobs, fcntl.LOCK_EX)


def _locked(file: int) -> bool | None:
    """Lock a file; False where somebody else has, None where the file system has no locks."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
        except OSError:
            return None
        else:
            return True


def _rewrite(file: int, text: str) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, text.encode("utf-8"), 0)


@functools.cache
def _machine() -> str:
    """What process numbers mean something in: a running kernel, and within it a container."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip() + str(
            Path("/proc/self/ns/pid").readlink()
        )
    except OSError:
        return platform.node()


def _born(pid: int) -> str:
    """When a living process was started, as the kernel counts; empty where there is none."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return ""
    else:
        return "" if state in "ZX" else fields[18]
    try:  # no Linux: of the numbers alone
        os.kill(pid, 0)
    except OSError as problem:
        return "alive" if problem.errno == errno.EPERM else ""
    return "alive"
