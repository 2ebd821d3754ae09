"""A folder is complete when its manifest is there: it is written last and names the bytes beside it."""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rmtransfer.kit.errors import StudyError

NAME = "manifest.json"
_RECORDED = ("torch", "transformers", "trl")


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON-able value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write ``manifest.json`` by atomic rename: ``facts``, library versions and the digest of every file in the folder."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name != NAME and not p.name.startswith("."))
    manifest = {
        **facts,
        "libraries": {name: importlib.metadata.version(name) for name in _RECORDED},
        "files": {p.name: digest_file(p) for p in files},
    }
    draft = folder / f".{NAME}"
    draft.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(draft, folder / NAME)


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
    """What identifies the weights and tokenizer in a folder: the digests that its manifest lists, model card apart."""
    return digest_of({n: d for n, d in read_manifest(folder)["files"].items() if n != "README.md"})
