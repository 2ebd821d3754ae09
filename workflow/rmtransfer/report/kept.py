"""What is kept of earlier runs, what tells one from another, and what deletes it."""

from collections.abc import Sequence
from pathlib import Path

from rmtransfer.kit.kept import Entry, disk, entries
from rmtransfer.kit.progress import report
from rmtransfer.report.changes import differences
from rmtransfer.study.layout import Layout


def print_kept(at: Layout) -> None:
    """Report all that is kept of a study."""
    kept = entries(Path(at.kept), Path(at.folder))
    report("\n" + render_kept(kept, Path(at.kept), disk(Path(at.kept))))


def render_kept(kept: Sequence[Entry], folder: Path, size: int) -> str:
    """What :func:`print_kept` reports, as text.

    Args:
        folder: of all that is kept.
        size: bytes that deleting it frees.
    """
    if not kept:
        return f"Nothing is kept in {folder}: trained models and sampled answers will be, when they are made."
    lines = [f"{'frees':>10}  {'since':<16}  {'folder':<60}  settings"]
    for entry in kept:
        now = next((other for other in kept if other.what == entry.what and other.current), None)
        if entry.current:
            settings = "(what is in results now)"
        elif now is None:
            settings = ""
        else:
            told = differences((), now.decides, entry.decides)
            settings = ", ".join(f"{'.'.join(change.path)}: {change.now!r}" for change in told)
        lines.append(f"{entry.bytes / 1e6:>7,.1f} MB  {entry.since:<16}  {entry.folder!s:<60}  {settings}")
    return "\n".join(
        [
            *lines,
            f"{size / 1e6:>7,.1f} MB  in all: rm -r {folder} deletes them, rm -r <folder> deletes one. What is in results stays, "
            "and stays without a second copy: a run with other settings then deletes it.",
        ]
    )
