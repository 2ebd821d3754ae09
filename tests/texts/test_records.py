"""Records come out of every format that is read as they went in, each with its number."""

import bz2
import gzip
import json
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rmtransfer.kit.errors import StudyError
from rmtransfer.texts.records import read_records

ROWS = [
    {"id": "a", "prompt": "¿Qué?\u2028\x0b", "chosen": [{"role": "assistant", "content": "𝄞 ਊ 上\r\n"}]},
    {"id": "b", "prompt": "왜?", "chosen": [{"role": "assistant", "content": "\u0085"}]},
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def read(tmp_path, content: bytes, name="rows.jsonl"):
    (tmp_path / name).write_bytes(content)
    return list(read_records(tmp_path / name, name))


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize(
    "text",
    [LINES, LINES.replace("\n", "\r\n"), json.dumps(ROWS), json.dumps(ROWS, indent=2, ensure_ascii=False)],
    ids=["lines", "CRLF", "array", "pretty array"],
)
def test_rows_are_what_was_written(tmp_path, text, encoding, compress):
    assert read(tmp_path, compress(text.encode(encoding)), "rows.parquet") == list(enumerate(ROWS, 1))


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_parquet_may_be_called_anything(tmp_path, compress):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "table")
    assert read(tmp_path, compress((tmp_path / "table").read_bytes()), "rows.jsonl") == list(enumerate(ROWS, 1))


def test_lines_are_counted_with_blank_and_bad_ones(tmp_path):
    content = b'\n{"id": 1}\n \t\n{"id": \n{"id": "\xff"}\n"text"\n[2]\n'
    found = [(number, str(record)) for number, record in read(tmp_path, content)]
    assert found == [
        (2, "{'id': 1}"),
        (4, "invalid JSON at character 9: Expecting value"),
        (5, "invalid UTF-8 at byte 9"),
        (6, "text"),
        (7, "[2]"),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"id,prompt\na,b\n", r"rows.jsonl is a table of text \(CSV or TSV\), .*; write its rows as JSON Lines"),
        (json.dumps(ROWS, indent=1)[:-20].encode(), r"rows.jsonl is damaged or was cut off \(.*line 18 .*; write or"),
        (gzip.compress(LINES.encode() * 9_000)[:-9], r"rows.jsonl is damaged or was cut off \(Compressed file ended"),
        (LINES.encode("utf-16")[:-1], r"rows.jsonl is damaged or was cut off \(.*utf-16.* truncated data"),
        (b"PAR1PAR1", r"rows.jsonl is damaged or was cut off \(.*; write or download it again"),
    ],
    ids=["CSV", "array", "gzip", "UTF-16", "Parquet"],
)
def test_a_file_that_is_none_or_damaged_is_one_sentence(tmp_path, content, said):
    with pytest.raises(StudyError, match=said):
        read(tmp_path, content)
