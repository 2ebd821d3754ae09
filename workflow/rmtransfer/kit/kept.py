"""What took long to make, kept beside the results under everything that decides it.

Snakemake deletes a job's outputs before the job starts. A finished model or set of answers is therefore also linked into a
folder outside the outputs: a job whose settings are those of an earlier run takes from there what that run made. Nothing in
here is deleted but by the user, and what is current takes no disk of its own, because large files are hard links.

An entry is ``<folder>/<output below the study>/<key>/``: the output under its own name, and ``kept.json``, what decides it and
the digests of its files. It appears by a rename, whole or not at all.
"""

import contextlib
import filecmp
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rmtransfer.kit import manifest
from rmtransfer.kit.files import link
from rmtransfer.kit.manifest import digest_file, digest_folder, digest_of
from rmtransfer.kit.progress import report

_FACTS = "kept.json"
_LINKED = (
    1_000_000  # bytes of a file from which on it is linked; smaller ones are edited in place by hand, and so copied
)
_KEY_DIGITS = 16


class Keep:
    """The place of what one job makes.

    Args:
        folder: of all that is kept for a study.
        study: folder that outputs lie below.
        output: what the job makes, a file or a folder.
        decides: by name, whatever decides what comes out; builtins.
        base: folder of the model that the job starts from, which has a manifest.
    """

    def __init__(self, folder: Path, study: Path, output: Path, decides: Mapping[str, Any], base: Path) -> None:
        self.output, self.decides = output, dict(decides)
        # By repr, as Snakemake compares params: the order of a mapping may decide something.
        key = digest_of([{name: repr(value) for name, value in decides.items()}, digest_folder(base)])
        self.entry = folder / output.relative_to(study) / key[:_KEY_DIGITS]

    def holds(self) -> bool:
        """Whether an earlier run made this; that it is undamaged is looked at when it is taken."""
        return (self.entry / _FACTS).is_file()

    def take(self) -> bool:
        """Put what an earlier run made in the place of the output; False where there is none that is undamaged.

        A damaged one is removed.
        """
        if not self.holds():
            return False
        if (file := _damaged(self.entry)) is not None:
            report(f"{file}: is not what was kept; {self.entry} is removed, and made again")
            shutil.rmtree(self.entry, ignore_errors=True)  # another job may be at it
            return False
        facts = _facts(self.entry)
        # The manifest last: without it a folder is not finished.
        for name in sorted(facts["files"], key=lambda name: Path(name).name == manifest.NAME):
            _place(self.entry / name, self.output.parent / name)
        os.utime(self.output)
        report(
            f"made before from the same, {facts['since']}, and kept: taken from {self.entry}. To make it anew, delete that "
            f"folder and {self.output}"
        )
        return True

    def put(self) -> None:
        """Keep the output, which is finished. That it cannot be kept is said, and no reason to lose it."""
        draft = self.entry.with_name(f".{self.entry.name}.{secrets.token_hex(4)}")
        try:
            if not self.holds():
                self._write(draft)
                draft.rename(self.entry)
        except OSError as problem:
            if not self.holds():  # another job was not faster
                report(f"{self.output}: is not kept, and the next run with other settings deletes it: {problem}")
        for left in self.entry.parent.glob(f".{self.entry.name}.*"):  # of jobs that were killed here, too
            shutil.rmtree(left, ignore_errors=True)

    def _write(self, draft: Path) -> None:
        listed = manifest.read_manifest(self.output)["files"] if self.output.is_dir() else {}
        digests = {}
        for path in _visible(self.output) if self.output.is_dir() else [self.output]:
            name = path.relative_to(self.output.parent)
            digests[str(name)] = listed.get(str(path.relative_to(self.output))) or digest_file(path)
            _place(path, draft / name)
        facts = {"decides": self.decides, "since": time.strftime("%Y-%m-%d %H:%M"), "files": digests}
        (draft / _FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def digest_of_inputs(paths: Iterable[Path]) -> str:
    """What decides a job's result besides its params and its base: the content of files that it reads, in order of their paths."""
    return digest_of([digest_file(path) for path in sorted(paths)])


class Entry(NamedTuple):
    """Something kept.

    Attributes:
        folder: to delete for deleting it.
        what: the output, below the study.
        current: whether the output is this one.
        bytes: of disk that deleting it frees.
    """

    folder: Path
    what: str
    decides: Mapping[str, Any]
    since: str
    current: bool
    bytes: int


def entries(folder: Path, study: Path) -> list[Entry]:
    """All that is kept, in the order of outputs and times.

    Args:
        folder, study: see :class:`Keep`.
    """
    found = []
    for path in sorted(folder.rglob(_FACTS)):
        entry = path.parent
        if any(part.startswith(".") for part in entry.relative_to(folder).parts):
            continue  # a job is at it, or was killed
        with contextlib.suppress(OSError, ValueError, LookupError):  # deleted or damaged: of no use to anybody
            facts, what = _facts(entry), entry.parent.relative_to(folder)
            current = _same(entry, facts, study / what)
            found.append(Entry(entry, str(what), facts["decides"], facts["since"], current, disk(entry)))
    return sorted(found, key=lambda entry: (entry.what, entry.since))


def disk(folder: Path) -> int:
    """Bytes of disk that deleting a folder frees: those of files that have no link elsewhere."""
    links: dict[int, list[int]] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            seen = path.stat()
            links.setdefault(seen.st_ino, [seen.st_nlink, seen.st_size, 0])[2] += 1
    return sum(size for count, size, here in links.values() if count == here)


def _facts(entry: Path) -> dict[str, Any]:
    return json.loads((entry / _FACTS).read_text(encoding="utf-8"))


def _damaged(entry: Path) -> Path | None:
    """A file of an entry that is not what its digest says; None where all are."""
    try:
        files = _facts(entry)["files"]
    except (OSError, ValueError, LookupError):
        return entry / _FACTS
    for name, digest in files.items():
        path = entry / name
        if not path.is_file() or digest_file(path) != digest:
            return path
    return None


def _same(entry: Path, facts: Mapping[str, Any], output: Path) -> bool:
    """Whether an output is the one kept, by its manifest or, of a single file, by its bytes."""
    name = output.name if output.is_file() else f"{output.name}/{manifest.NAME}"
    theirs = output.parent / name
    return name in facts["files"] and theirs.is_file() and filecmp.cmp(entry / name, theirs, shallow=False)


def _visible(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _place(source: Path, target: Path) -> None:
    """The same file under another path: a large one by hard link, or by copy where there are none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.stat().st_size >= _LINKED:
        link(source, target)
    else:
        target.unlink(missing_ok=True)
        shutil.copy2(source, target)
