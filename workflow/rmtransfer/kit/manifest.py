"""A folder is complete when its manifest is there: it is written last and names the bytes beside it."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.files import write_once

NAME = "manifest.json"
_NOTES = ("README.md", "training_log.csv")  # what is said of the weights
_RECORDED = ("torch", "transformers", "trl")


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON-able value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, facts: Mapping[str, Any], base: Path | None = None) -> None:
    """Write ``manifest.json`` by atomic rename: ``facts``, library versions and the digest of every file in the folder.

    Args:
        base: a finished folder that files may be hard links to, which are not read again.
    """
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name != NAME and not p.name.startswith("."))
    listed = read_manifest(base)["files"] if base else {}
    known = {_node(base / name): digest for name, digest in listed.items() if base and (base / name).is_file()}
    manifest = {
        **facts,
        "libraries": {name: importlib.metadata.version(name) for name in _RECORDED},
        "files": {p.name: known.get(_node(p)) or digest_file(p) for p in files},
    }
    draft = folder / f".{NAME}"
    draft.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(draft, folder / NAME)


def _node(path: Path) -> tuple[int, int]:
    """What is the same for all names of one file."""
    found = path.stat()
    return found.st_dev, found.st_ino


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a folder's manifest.

    Raises:
        StudyError: there is none, so the folder was never finished.
    """
    path = folder / NAME
    if not path.is_file():
        raise StudyError(f"{folder}: has no {NAME}, so it was never finished; remove the folder and run again")
    return json.loads(path.read_text(encoding="utf-8"))


def digest_folder(folder: Path) -> str:
    """What identifies the weights and tokenizer in a folder: the digests that its manifest lists, model card and log apart."""
    return digest_of({n: d for n, d in read_manifest(folder)["files"].items() if n not in _NOTES})


def located(location: str, revision: str | None, root: Path) -> tuple[str, str | None]:
    """What to load a model from: its folder, which has no revision, or hub id and revision."""
    folder = root / Path(location).expanduser()
    return (str(folder), None) if folder.is_dir() else (location, revision)


def identity(location: str, revision: str | None = None, root: Path = Path()) -> str:
    """Which model it is: ``<hub id>@<commit>``, or ``sha256:`` and the digest of all that its folder holds.

    A folder without a manifest is read in full, because checkpoints of one training run can agree in all but a head of a
    few kilobytes; what came out is kept beside it, for as long as no file's name, size or time changes.

    Args:
        location: a folder, or a hub id.
        root: folder that a relative path starts from.

    Raises:
        StudyError: a hub id without a revision.
    """
    folder = root / Path(location).expanduser()
    if (folder / NAME).is_file():
        return f"sha256:{digest_folder(folder)}"
    if folder.is_dir():
        return f"sha256:{_digest_unlisted(folder.resolve())}"
    if revision is None:
        raise StudyError(f"{location!r} is no folder, and as a model of the hub it needs a revision; add its commit")
    return f"{location}@{revision}"


def _digest_unlisted(folder: Path) -> str:
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.name not in _NOTES)
    seen = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    kept = folder.with_name(f".{folder.name}.digest.json")
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        known = json.loads(kept.read_text(encoding="utf-8"))
        if known["files"] == seen:
            return known["digest"]
    digest = digest_of({p.name: digest_file(p) for p in files})
    with contextlib.suppress(OSError):  # beside a folder that others own nothing can be kept
        write_once(
            kept, lambda draft: draft.write_text(json.dumps({"files": seen, "digest": digest}), encoding="utf-8")
        )
    return digest
