"""What is kept of earlier runs, what tells one from another, and what deletes it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rmtransfer.kit.kept import Entry, disk, entries
from rmtransfer.kit.progress import report
from rmtransfer.report.changes import config_key, differences
from rmtransfer.study.layout import Layout


def print_kept(at: Layout, config: Mapping[str, Any]) -> None:
    """Report all that is kept of a study.

    Args:
        config: the study's configuration as builtins.
    """
    kept = entries(Path(at.kept), Path(at.folder))
    report("\n" + render_kept(kept, Path(at.kept), disk(Path(at.kept)), config))


def render_kept(kept: Sequence[Entry], folder: Path, size: int, config: Mapping[str, Any]) -> str:
    """What :func:`print_kept` reports, as text.

    Args:
        folder: of all that is kept.
        size: bytes that deleting it frees.
    """
    if not kept:
        return f"Nothing is kept in {folder} yet: models and answers are when they have been trained and sampled."
    current = {entry.what: entry for entry in kept if entry.current}
    lines = [f"Kept in {folder}: {len(current)} models that are in results now, and of other settings:"]
    for entry in kept:
        if entry.current:
            continue
        lines.append(
            f"{entry.bytes / 1e6:>10,.1f} MB  {entry.since}  {entry.folder.relative_to(folder)}  "
            + _told_apart(entry, current.get(entry.what), config)
        )
    lines.append(
        f"{size / 1e6:>10,.1f} MB  in all. rm -r {folder}/<one of them> deletes it, rm -r {folder} all; what is in results stays, "
        "but then has no second copy when a run replaces it."
    )
    return "\n".join(lines)


def _told_apart(entry: Entry, current: Entry | None, config: Mapping[str, Any]) -> str:
    if current is None:
        return "(nothing in results now)"
    told = differences((), entry.decides, current.decides)
    return ", ".join(f"{config_key(change, config) or '.'.join(change.path)}: {change.before!r}" for change in told)
