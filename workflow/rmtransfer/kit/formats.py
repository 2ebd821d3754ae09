"""What a file is, by its first bytes: no suffix is believed. Imports nothing heavy."""

import bz2
import gzip
import json
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal

Format = Literal["parquet", "array", "lines"]

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_PARQUET = b"PAR1"
_COMPRESSED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
DAMAGED = (
    EOFError,
    OSError,
    zlib.error,
    lzma.LZMAError,
)  # what reading a file raises, where compressed ones are cut off
# First bytes of what is not read: what it is, and what to do.
_OTHERS = {
    LFS_POINTER: ("a Git LFS pointer and not the file itself", "run `git lfs pull` where it was cloned"),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "decompress it: zstd -d"),
    b"PK\x03\x04": ("a ZIP archive, as spreadsheets are", "unpack it, and export a spreadsheet as JSON Lines"),
    b"ARROW1": ("an Arrow file", "write it again with to_parquet of the package datasets"),
    b"\xff\xff\xff\xff": ("an Arrow stream", "write it again with to_parquet of the package datasets"),
    b"PARE": ("an encrypted Parquet file", "write it again without encryption"),
    b"SQLite format 3\0": ("an SQLite database", "export the table as JSON Lines"),
    b"\x80": ("a Python pickle", "write it again as Parquet or JSON Lines"),
}
_TAR = 257, b"ustar"
_HEAD = 1 << 16  # bytes that are looked at
_SHOWN = 60  # characters of a line that is no row


class UnreadableError(ValueError):
    """What a file is instead of rows and what to do, to be read after its name."""


def opened(path: Path) -> IO[bytes]:
    """A file's bytes, decompressed where they are compressed by gzip, bzip2 or xz. Reading them may raise ``DAMAGED``."""
    return (_decompressed(path) or Path.open)(path, mode="rb")


def format_of(path: Path) -> Format:
    """How rows lie in a file: in Parquet, one JSON array, or one JSON object a line; each may be compressed.

    Raises:
        UnreadableError: it is of another kind, or a Parquet file without its end.
    """
    try:
        with opened(path) as file:
            head = file.read(_HEAD)
        if head.startswith(_PARQUET):
            if not _decompressed(path) and not _ends_with(path, _PARQUET):
                raise UnreadableError("is a Parquet file that was cut off; write or download it again")
            return "parquet"
    except DAMAGED as problem:
        raise UnreadableError(f"cannot be read ({problem}); write or download it again") from problem
    for first_bytes, (what, remedy) in _OTHERS.items():
        if head.startswith(first_bytes):
            raise UnreadableError(f"is {what}; {remedy}")
    if head[_TAR[0] :].startswith(_TAR[1]):
        raise UnreadableError("is a tar archive; unpack it")
    lines = [line for line in head.decode(encoding_of(head), "replace").split("\n") if line.strip()]
    if not lines:
        raise UnreadableError("is empty; write or download it again")
    first = lines[0].strip()
    if first.startswith("["):
        return "lines" if len(lines) > 1 and _is_json(first, list) else "array"
    whole = lines if len(head) < _HEAD else lines[:-1]
    rows = any(_is_json(line, dict) for line in whole) if whole else first.startswith("{")
    if rows and not first.endswith(("{", "[")):  # else one object, whose parts may be on a line each
        return "lines"
    raise UnreadableError(_no_rows(first))


def encoding_of(head: bytes) -> str:
    """UTF-8, UTF-16 or UTF-32: by a byte order mark, or by where zeros stand around the first characters of JSON."""
    return json.detect_encoding(head)


def _decompressed(path: Path) -> Callable[..., Any] | None:
    with path.open("rb") as file:
        start = file.read(max(map(len, _COMPRESSED)))
    return next((reader for first_bytes, reader in _COMPRESSED.items() if start.startswith(first_bytes)), None)


def _ends_with(path: Path, end: bytes) -> bool:
    with path.open("rb") as file:
        file.seek(-len(end), 2)
        return file.read() == end


def _is_json(line: str, kind: type) -> bool:
    try:
        return isinstance(json.loads(line), kind)
    except ValueError:
        return False


def _no_rows(first: str) -> str:
    shown = repr(first[:_SHOWN]) + "…" * (len(first) > _SHOWN)
    if min(first.replace("\t", " ")) < " ":
        return "is no text, and no Parquet file either; write its rows as JSON Lines or Parquet"
    if first.startswith("{"):
        return "holds JSON objects over several lines; put each row on a line of its own: jq -c ."
    if first.startswith("<"):
        return f"is XML or a web page, whose first line is {shown}; download the data itself"
    if any(separator in first for separator in ",;\t"):
        return (
            f"is a table of text (CSV or TSV), whose first line is {shown}; write its rows as JSON Lines or Parquet, in which "
            "conversations keep their form"
        )
    return f"is neither JSON Lines, a JSON array nor Parquet, its first line is {shown}; convert it"
