"""The cores that a job may use while it computes: those of the run that no other job is computing on.

Jobs come in pairs, so that imports and loads of one overlap the arithmetic of the other. Whoever computes holds a lock on a
file of its own in a common folder; a job that has died counts no more, however it ended. How many threads compute one
product stays what it is, since training is sensitive to the last bit: a job that has cores to spare computes several batches
at a time (:func:`rmtransfer.models.parallel.in_workers`).
"""

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

CORES_OF_THE_RUN = "RMTRANSFER_CORES"
_DRAFT = "."


class Cores:
    """A job's share of the cores; a context in which the job counts as computing.

    Args:
        folder: of the run; where jobs say that they compute.
        own: threads of this job, and of each of its workers.
        total: cores of all jobs of the run together.
    """

    def __init__(self, folder: Path, own: int, total: int) -> None:
        self.folder, self.own, self.total = folder, own, total
        self._path: Path | None = None
        self._file = -1

    @classmethod
    def of_the_run(cls, folder: Path, own: int) -> Self:
        """With the cores that Snakemake was given; a job that was sent to another machine has its own and no more."""
        return cls(folder, own, int(os.environ.get(CORES_OF_THE_RUN, own)))

    def workers(self) -> int:
        """How many workers of ``own`` threads may compute now, at least one: an even share of the cores among jobs."""
        computing = max(1, _computing(self.folder) + (self._path is None))
        return max(1, self.total // computing // self.own)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file, draft = tempfile.mkstemp(prefix=_DRAFT, dir=self.folder)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # a file system without locks: jobs know nothing of each other
            self.total = self.own
        self._path = self.folder / Path(draft).name.removeprefix(_DRAFT)
        os.replace(draft, self._path)  # seen with its lock or not at all
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._path = None


def _computing(folder: Path) -> int:
    """How many jobs hold the lock of a file in a folder; the files of dead ones are removed."""
    try:
        paths = [path for path in folder.iterdir() if not path.name.startswith(_DRAFT)]
    except FileNotFoundError:
        return 0
    return sum(map(_is_held, paths))


def _is_held(path: Path) -> bool:
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_RDONLY)
        try:
            # Shared, so that nobody who asks at the same moment takes this for a job.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            path.unlink()
        except BlockingIOError:
            return True
        finally:
            os.close(file)
    return False
