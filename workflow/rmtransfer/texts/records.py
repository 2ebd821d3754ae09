"""Records out of a file of any format that is read, whatever it is called; see :mod:`rmtransfer.kit.formats`."""

import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.formats import DAMAGED, UnreadableError, encoding_of, format_of, opened

SLICE = 2_000  # rows of a Parquet file in memory
_BOM, _BLANK = "\ufeff", " \t\r\n\v\f"


def read_records(path: Path, name: str) -> Iterator[tuple[int, Any]]:
    """Records of a file, each with its number from 1: of its line, or of its row in Parquet and in a JSON array.

    Args:
        name: the file's name, for messages.

    Yields:
        (number, record); for a line that is no JSON an Exception that says why.

    Raises:
        StudyError: the file is of another format, or damaged.
    """
    try:
        kind = format_of(path)
        with opened(path) as file:
            if kind == "lines":
                yield from _lines(file)
            else:
                yield from enumerate(json.loads(file.read()) if kind == "array" else _table(path, file), 1)
    except UnreadableError as problem:
        raise StudyError(f"{name} {problem}") from problem
    except (*DAMAGED, pa.ArrowException, ValueError) as problem:
        raise StudyError(f"{name} is damaged or was cut off ({problem}); write or download it again") from problem


def _lines(file: IO[bytes]) -> Iterator[tuple[int, Any]]:
    encoding = encoding_of(file.read(4))
    file.seek(0)
    # Other encodings are decoded as a whole: a line ends where a character does, not a byte.
    utf8 = encoding.startswith("utf-8")
    lines: Iterable[bytes | str] = file if utf8 else file.read().decode(encoding).split("\n")
    for number, line in enumerate(lines, 1):
        try:
            text = line if isinstance(line, str) else line.decode("utf-8")
            text = text.removeprefix(_BOM) if number == 1 else text
            if text.strip(_BLANK):
                yield number, json.loads(text)
        except UnicodeDecodeError as problem:
            yield number, ValueError(f"invalid UTF-8 at byte {problem.start + 1}")
        except json.JSONDecodeError as problem:
            yield number, ValueError(f"invalid JSON at character {problem.pos + 1}: {problem.msg}")


def _table(path: Path, file: IO[bytes]) -> Iterator[dict[str, Any]]:
    """A few thousand rows in memory at a time."""
    if isinstance(file, io.BufferedReader):
        import pyarrow.dataset as pds  # which loads pandas

        # By its path as long as it is not compressed: pyarrow then adds what folders such as lang=es say.
        batches = pds.dataset(path, format="parquet", partitioning="hive").to_batches(
            batch_size=SLICE, batch_readahead=1
        )
    else:
        batches = pq.ParquetFile(pa.BufferReader(file.read())).iter_batches(SLICE)
    for batch in batches:
        yield from batch.to_pylist()
