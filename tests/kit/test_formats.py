"""A file is what its first bytes say, whatever it is called; what holds no rows is named with a remedy."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rmtransfer.kit.formats import UnreadableError, format_of

ROW = {"id": "a", "prompt": "¿Qué?", "chosen": "Sí; claro, no.", "rejected": "A\tB <x>"}
LINE = json.dumps(ROW, ensure_ascii=False) + "\n"
TABLE = pa.Table.from_pylist([ROW])


def parquet(**options) -> bytes:
    file = io.BytesIO()
    pq.write_table(TABLE, file, **options)
    return file.getvalue()


def arrow(stream: bool) -> bytes:
    file = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(file, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return file.getvalue()


def archive(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as into:
            into.writestr("rows.jsonl", LINE)
    else:
        with tarfile.open(fileobj=file, mode=f"w:{kind.removeprefix('tar').removeprefix('.')}") as into:
            info = tarfile.TarInfo("rows.jsonl")
            info.size = len(LINE.encode())
            into.addfile(info, io.BytesIO(LINE.encode()))
    return file.getvalue()


LONG = json.dumps({**ROW, "chosen": "x" * 100_000})
LINES = {
    "lines": LINE.encode(),
    "blank lines first": f"\n\n{LINE}".encode(),
    "one line without an end": LINE.strip().encode(),
    "a byte order mark": LINE.encode("utf-8-sig"),
    "line ends that JSON has not": LINE.replace("no", "\u2028\u0085").encode(),
    "UTF-16": LINE.encode("utf-16"),
    "UTF-16 without its mark": LINE.encode("utf-16-le"),
    "UTF-16 the other way": LINE.encode("utf-16-be"),
    "UTF-32": LINE.encode("utf-32"),
    "a bad line first": f"no JSON,\n{LINE}".encode(),
    "no UTF-8 in it": b'{"id": "\xff"}\n',
    "a line longer than what is looked at": LONG.encode(),
    "a bad line, and one longer than what is looked at": f"{LINE}{LONG}".encode(),
    "gzip": gzip.compress(LINE.encode()),
    "bzip2": bz2.compress(LINE.encode()),
    "xz": lzma.compress(LINE.encode()),
    "UTF-16 in gzip": gzip.compress(LINE.encode("utf-16")),
    "lists": b'["a"]\n["b"]\n',
}
ARRAYS = {
    "an array": json.dumps([ROW]).encode(),
    "over several lines": json.dumps([ROW, ROW], indent=2).encode(),
    "a row a line": f"[\n{LINE.strip()},\n{LINE}]".encode(),
    "a single row": f"[\n{LINE}]\n".encode(),
    "with a mark": json.dumps([ROW]).encode("utf-8-sig"),
    "of UTF-16": json.dumps([ROW]).encode("utf-16"),
    "in gzip": gzip.compress(json.dumps([ROW]).encode()),
    "longer than what is looked at": json.dumps([{**ROW, "chosen": "x" * 100_000}]).encode(),
}
TABLES = {"parquet": parquet(), "zstd inside": parquet(compression="zstd"), "parquet in gzip": gzip.compress(parquet())}
NOT_READ = {
    "nothing": (b"", "is empty; write or download it again"),
    "blank": (b" \n\n", "is empty"),
    "comma": (
        b"id,prompt,chosen,rejected\na,b,c,d\n",
        "is a table of text (CSV or TSV), whose first line is 'id,prompt",
    ),
    "semicolon": (b"id;prompt\na;b\n", "is a table of text"),
    "tab": (b"id\tprompt\na\tb\n", "is a table of text"),
    "CSV of a spreadsheet": (
        "id,prompt\n".encode("utf-8-sig"),
        "is a table of text (CSV or TSV), whose first line is 'id,prompt'",
    ),
    "Unicode text of a spreadsheet": (
        "id\tprompt\n".encode("utf-16"),
        r"is a table of text (CSV or TSV), whose first line is 'id\tprompt'",
    ),
    "CSV in gzip": (gzip.compress(b"id,prompt\na,b\n"), "is a table of text"),
    "prose": (b"# Rows\n\nSee below\n", "is neither JSON Lines, a JSON array nor Parquet, its first line is '# Rows'"),
    "pretty": (json.dumps(ROW, indent=1).encode(), "holds JSON objects over several lines; put each row on a line"),
    "one object of all": (b'{"version": 1, "data": [\n{}\n,{}]}', "holds JSON objects over several lines"),
    "web page": (b"<!DOCTYPE html>\n<html>", "is XML or a web page, whose first line is '<!DOCTYPE html>'"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a Git LFS pointer"),
    "zip": (archive("zip"), "is a ZIP archive, as spreadsheets are; unpack it"),
    "tar": (archive("tar"), "is a tar archive; unpack it"),
    "tar in gzip": (archive("tar.gz"), "is a tar archive; unpack it"),
    "zstd": (pa.compress(LINE.encode(), codec="zstd", asbytes=True), "is compressed by zstd; decompress it: zstd -d"),
    "arrow": (arrow(False), "is an Arrow file; write it again with to_parquet"),
    "arrow stream": (arrow(True), "is an Arrow stream; write it again with to_parquet"),
    "pickle": (pickle.dumps([ROW]), "is a Python pickle"),
    "database": (b"SQLite format 3\0" + bytes(80), "is an SQLite database; export the table"),
    "binary": (b"\x01\x02\x7fELF,", "is no text, and no Parquet file either"),
    "cut Parquet": (parquet()[:-20], "is a Parquet file that was cut off; write or download it again"),
    "cut gzip": (gzip.compress(LINE.encode())[:-20], "cannot be read (Compressed file ended"),
    "damaged gzip": (b"\x1f\x8b\x08\0" + bytes(8) + b"\xff" * 20, "cannot be read ("),
    "cut xz": (lzma.compress(LINE.encode())[:-20], "cannot be read (Compressed file ended"),
}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ""])
@pytest.mark.parametrize(
    ("expected", "case"),
    [(kind, case) for kind, those in (("lines", LINES), ("array", ARRAYS), ("parquet", TABLES)) for case in those],
)
def test_a_file_that_is_read_is_known_whatever_it_is_called(tmp_path, suffix, expected, case):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes((LINES | ARRAYS | TABLES)[case])
    assert format_of(path) == expected


@pytest.mark.parametrize("case", NOT_READ)
def test_a_file_that_is_not_read_is_named_with_what_to_do(tmp_path, case):
    content, said = NOT_READ[case]
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(UnreadableError) as problem:
        format_of(tmp_path / "rows.jsonl")
    assert str(problem.value).startswith(said)
    assert "; " in str(problem.value)
