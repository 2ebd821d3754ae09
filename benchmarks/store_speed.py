"""How fast the translation store answers, and what a rerun on a translated corpus adds.

    PYTHONPATH=workflow .venv/bin/python benchmarks/store_speed.py

Peer: the same SQLite file asked for one text at a time.
"""

import argparse
import multiprocessing
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rmtransfer.texts.corpus import save_rows
from rmtransfer.translation import Machine
from rmtransfer.translation.deepl import DeepL, DeepLOptions
from rmtransfer.translation.pipeline import adopt
from rmtransfer.translation.rows import translate_rows
from rmtransfer.translation.store import SegmentStore, Translation, text_digest

_SENTENCE = "the old house at the end of the road has a garden with a tree and nobody knows who planted it there"
_WORDS = _SENTENCE.split()


class Unasked(DeepL):
    """An engine that must not be started."""

    def translate(self, prose: Sequence[str]) -> Iterator[dict[str, Translation]]:
        """Fail: everything is stored."""
        raise AssertionError(f"{len(prose)} texts were not in the store")


def _unasked() -> Unasked:
    return Unasked(DeepLOptions(formality="more"), "en", "es", Machine(Path()))


def main() -> None:
    """Print look-ups a second in bulk and one by one, and the seconds and memory of a rerun."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=86_000)
    parser.add_argument("--peer", type=int, default=50_000, help="texts looked up one by one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _look_ups(Path(folder) / "store.sqlite", arguments.texts, arguments.peer)
        _rerun(Path(folder), arguments.rows)


def _text(number: int) -> str:
    start = number % len(_WORDS)
    return f"{number} {' '.join(_WORDS[start:] + _WORDS[:start])}. " * 2


def _look_ups(path: Path, count: int, peer: int) -> None:
    store, scope = SegmentStore(path), _unasked().scope
    texts = [_text(i) for i in range(count)]
    began = time.perf_counter()
    for start in range(0, count, 20_000):
        store.put(scope, {text: Translation(text[::-1]) for text in texts[start : start + 20_000]})
    print(f"store: {count:,} texts written in {time.perf_counter() - began:.1f} s, {path.stat().st_size / 1e6:,.0f} MB")
    began = time.perf_counter()
    found = sum(len(store.get(scope, texts[start : start + 2_000])) for start in range(0, count, 2_000))
    bulk = (time.perf_counter() - began) / count
    assert found == count
    database = sqlite3.connect(path)
    began = time.perf_counter()
    for text in texts[:: max(1, count // peer)][:peer]:
        (_,) = database.execute(
            "SELECT translation FROM segment WHERE scope = 1 AND digest = ?", [text_digest(text)]
        ).fetchone()
    single = (time.perf_counter() - began) / min(peer, count)
    print(
        f"look-ups: {count:,} in {bulk * count:.1f} s in slices of 2,000; one by one {single * count:.1f} s, "
        f"{single / bulk:.1f} times as long"
    )


def _rerun(folder: Path, count: int) -> None:
    store = SegmentStore(folder / "corpus.sqlite")
    rows: list[dict[str, Any]] = [
        {
            "id": str(i),
            "subset": None,
            "prompt": [{"role": "user", "content": _text(3 * i)}],
            "chosen": [{"role": "assistant", "content": _text(3 * i + 1) * 4}],
            "rejected": [{"role": "assistant", "content": _text(3 * i + 2) * 4}],
        }
        for i in range(count)
    ]
    save_rows(rows, folder / "rows.parquet")
    for start in range(0, count, 5_000):
        texts = [row[f][0]["content"] for row in rows[start : start + 5_000] for f in ("prompt", "chosen", "rejected")]
        adopt({text: Translation(text[::-1]) for text in texts}, _unasked(), store)
    del rows, texts
    pq.write_table(pq.read_table(folder / "rows.parquet").slice(0, count // 10), folder / "tenth.parquet")
    # Each in a process of its own, so that each has a peak of its own.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        (_, small), (seconds, large) = pool.map(_translate, [folder / "tenth.parquet", folder / "rows.parquet"], 1)
    began = time.perf_counter()
    pq.write_table(pa.Table.from_pylist(pq.read_table(folder / "rows.parquet").to_pylist()), folder / "copy.parquet")
    copy = time.perf_counter() - began
    print(
        f"rerun: {count:,} x 3 stored texts in {seconds:.1f} s, {seconds / copy:.1f} times what copying the Parquet file "
        f"row by row takes; peak memory {large / 1024:,.0f} MB, on a tenth of them {small / 1024:,.0f} MB"
    )


def _translate(rows: Path) -> tuple[float, int]:
    """Seconds, and the process's peak memory in KiB."""
    began = time.perf_counter()
    paths = [rows.parent / name for name in ("out.parquet", "dropped.csv", "measures.csv")]
    translate_rows(rows, "preferences", "es", _unasked(), rows.parent / "corpus.sqlite", *paths)
    # Not ru_maxrss, which a new process inherits from the one that started it.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return time.perf_counter() - began, int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    main()
