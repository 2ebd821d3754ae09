"""The store's translations of a study as a translation memory, and back."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rmtransfer.study.languages import split_variant
from rmtransfer.texts.corpus import fields_of, texts_of
from rmtransfer.translation import Engine
from rmtransfer.translation.engines import build_engine
from rmtransfer.translation.memory import read_tmx, write_tmx
from rmtransfer.translation.pipeline import adopt, stored, translate_texts
from rmtransfer.translation.store import SegmentStore, Translation

_SLICE = 2_000


def export_memory(
    specs: Mapping[str, Mapping[str, Any]], source: str, rows: Mapping[str, Path], store: Path, root: Path, output: Path
) -> int:
    """Write each distinct text of the study once, with every translation that is there; returns how many.

    Args:
        specs: language code to what :func:`rmtransfer.translation.engines.engine_spec` returned.
        rows: role to the Parquet file of its rows in the source language.
    """
    kept = SegmentStore(store)
    engines = _engines(specs, source, root)

    def units() -> Iterator[tuple[str, dict[str, Translation]]]:
        seen: set[str] = set()
        for role, path in rows.items():
            for batch in pq.ParquetFile(path).iter_batches(_SLICE):
                texts = [text for row in batch.to_pylist() for text in texts_of(row, fields_of(role))]
                fresh = [text for text in dict.fromkeys(texts) if text not in seen]
                seen.update(fresh)
                found = {
                    code: stored(fresh, engine, kept) if engine.lock else translate_texts(fresh, engine, None)
                    for code, engine in engines.items()
                }
                for text in fresh:
                    yield text, {code: known[text] for code, known in found.items() if text in known}

    return write_tmx(output, source, units())


def import_memory(specs: Mapping[str, Mapping[str, Any]], source: str, memory: Path, store: Path, root: Path) -> int:
    """Put a memory's translations into the store under the engines that a study names; returns how many."""
    kept = SegmentStore(store)
    count = 0
    for code, engine in _engines(specs, source, root).items():
        if engine.lock is not None:
            known = read_tmx(memory, source, code) or read_tmx(memory, source, split_variant(code)[0])
            adopt(known, engine, kept)
            count += len(known)
    return count


def _engines(specs: Mapping[str, Mapping[str, Any]], source: str, root: Path) -> dict[str, Engine]:
    return {
        code: build_engine(spec, source, code, root, tokens_per_batch=1, requests_at_once=1, device="cpu")
        for code, spec in specs.items()
    }
