"""Files that are there whole or not at all."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from rmtransfer.kit.damage import damage_in
from rmtransfer.kit.errors import StudyError

# What a link fails with on another file system, on one without hard links, or where a file has all the names it can have.
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP}


def write_once(path: Path, write: Callable[[Path], object]) -> None:
    """Have ``write`` write a file that is there whole or not at all, whoever else writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{os.getpid()}.{path.name}")
    write(draft)
    os.replace(draft, path)


def link(source: Path, target: Path) -> None:
    """Give a file a second name, in place of what has that name; a copy with its rights where there are no hard links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError as problem:
        if problem.errno not in _NO_LINK:
            raise
        shutil.copyfile(source, target)
        shutil.copymode(source, target)


def links_in(folder: Path) -> bool:
    """Whether files in a folder can have several names."""
    file, second = folder / f".{os.getpid()}.link", folder / f".{os.getpid()}.link2"
    try:
        file.touch()
        os.link(file, second)
    except OSError as problem:
        return problem.errno not in _NO_LINK
    finally:
        for path in (file, second):
            path.unlink(missing_ok=True)
    return True


def publish(kept: Path, output: Path) -> None:
    """The declared output is a hard link to the kept file: no second copy, and deleting one keeps the other.

    Raises:
        StudyError: the kept file is damaged; it is removed, and so made again by the next run.
    """
    if damage := damage_in(kept):
        kept.unlink()
        raise StudyError(f"{kept}: {damage}; it has been removed: give the same command again, which makes it again")
    output.parent.mkdir(parents=True, exist_ok=True)
    link(kept, output)
    os.utime(output)
