"""Files that are there whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path


def write_once(path: Path, write: Callable[[Path], object]) -> None:
    """Have ``write`` write a file that is there whole or not at all, whoever else writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{os.getpid()}.{path.name}")
    write(draft)
    os.replace(draft, path)


def publish(kept: Path, output: Path) -> None:
    """The declared output is a hard link to the kept file: no second copy, and deleting one keeps the other."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    os.link(kept, output)
    os.utime(output)
