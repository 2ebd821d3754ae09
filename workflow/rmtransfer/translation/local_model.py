"""What the engines that run a model on this machine share."""

import hashlib
from pathlib import Path

CUT_OFF = "stopped at the length limit"
_WHOLE = 4 << 20  # larger files count by their first bytes and their size


def model_identity(name: str, revision: str | None, root: Path) -> str:
    """What a model is, for the store: hub id and revision, or the content of a local folder.

    The large files of a folder count by size and first mebibytes: a safetensors file starts with its shapes and the
    first weights, and reading all of a 50 GB model for every job would take minutes.
    """
    folder = root / Path(name).expanduser()
    if not folder.is_dir():
        return f"{name}@{revision or 'main'}"
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")):
        if path.name in ("README.md", "manifest.json"):
            continue
        with path.open("rb") as file:
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode() + file.read(_WHOLE))
    return f"sha256:{digest.hexdigest()}"
