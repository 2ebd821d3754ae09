"""What a failure of the disk was, said so that it can be mended: no room, no right to write, a file that was cut off.

Libraries say each of these in words of their own, and seldom the file. So nobody guards single reads and writes: where a job
has failed, whatever it said, the disk and the job's inputs are looked at, once and in one place (kit/progress.py).
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FULL_IN_WORDS = (
    "no space left on device",
    "disk quota exceeded",
    "database or disk is full",  # SQLite
    "unexpected pos",  # torch, of any write that failed
)
_PARQUET = b"PAR1"


def explained(problem: BaseException, folder: Path, inputs: Iterable[Path]) -> str | None:
    """What to tell the user of a failed job; None where the disk has no part in it.

    Args:
        folder: of the study's results.
        inputs: files and folders that the job read.
    """
    chain = list(_chain(problem))
    if any(isinstance(p, OSError) and p.errno == errno.EROFS for p in chain):
        named = next((p.filename for p in chain if isinstance(p, OSError) and p.filename), folder)
        return f"{named}: the file system is mounted read-only; mount it for writing and give the same command again"
    if any(map(_is_full, chain)):
        return _where_full(folder)
    for path in inputs:
        if (found := _damaged(path)) is not None:
            file, damage = found
            if path.is_relative_to(folder):
                _forget(file, folder / ".work")
                return f"{file}: {damage}; remove {path} and give the same command again, which makes it again"
            return f"{file}: {damage}; put a whole one there and give the same command again"
    return None


def damage_in(path: Path) -> str | None:
    """Why a Parquet, safetensors, npz or JSON file cannot be whole; None where nothing is to be seen of it.

    Read is what a write or copy that was cut off leaves out or contradicts: the end of a file, or its length. Changed bits
    are not looked for.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            match path.suffix:
                case ".parquet":
                    file.seek(max(0, size - len(_PARQUET)))
                    whole = size > 2 * len(_PARQUET) and file.read() == _PARQUET
                case ".safetensors":
                    length = int.from_bytes(file.read(8), "little")
                    header = json.loads(file.read(length)) if length + 8 <= size else {}
                    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
                    whole = length > 0 and 8 + length + max(ends, default=0) == size
                case ".npz":
                    whole = zipfile.is_zipfile(file)
                case ".json":
                    json.load(file)
                    whole = True
                case _:
                    return None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as problem:  # a header of another shape
        return f"is damaged ({problem})"
    return None if whole else f"is damaged: it has been cut off at {size:,} bytes"


def _chain(problem: BaseException | None) -> Iterator[BaseException]:
    while problem is not None:
        yield problem
        problem = problem.__cause__ or problem.__context__


def _is_full(problem: BaseException) -> bool:
    if isinstance(problem, OSError) and problem.errno in _FULL:
        return True
    said = str(problem).lower()
    return any(words in said for words in _FULL_IN_WORDS)


def _where_full(folder: Path) -> str:
    """The file system with the least room among those that jobs write to."""
    room = {}
    for path in (folder, Path(tempfile.gettempdir())):
        place = path.resolve()
        with contextlib.suppress(OSError):
            while not os.path.ismount(place):
                place = place.parent
            room[place] = shutil.disk_usage(place)
    place, usage = min(room.items(), key=lambda item: item[1].free)
    return (
        f"the disk is full: of {usage.total / 1e6:,.0f} MB on {place} {usage.free / 1e6:,.1f} MB are free; make room there and "
        "give the same command again: finished jobs are kept, and nothing that was half written counts"
    )


def _forget(file: Path, kept: Path) -> None:
    """Remove the other names of a damaged output, where it would be taken from when it is made again."""
    number = file.stat().st_ino
    for other in kept.rglob(f"*{file.suffix}") if file.stat().st_nlink > 1 else ():
        if other.stat().st_ino == number:
            other.unlink()


def _damaged(path: Path) -> tuple[Path, str] | None:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return next(((file, damage) for file in files if (damage := damage_in(file))), None)
