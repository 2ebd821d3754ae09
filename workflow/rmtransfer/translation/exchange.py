"""The store's translations of a study as a translation memory, and back."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rmtransfer.kit.progress import report
from rmtransfer.study.languages import split_variant
from rmtransfer.texts.corpus import fields_of, slices, texts_of
from rmtransfer.translation import Engine, Machine
from rmtransfer.translation.engines import build_engine
from rmtransfer.translation.memory import read_tmx, write_tmx
from rmtransfer.translation.pipeline import adopt, stored, translate_texts
from rmtransfer.translation.store import SegmentStore, Translation, text_digest


def export_memory(
    specs: Mapping[str, Mapping[str, Any]], source: str, rows: Mapping[str, Path], store: Path, root: Path, output: Path
) -> None:
    """Write each distinct text of the study once, with every translation that is there.

    Args:
        specs: language code to ``engine`` and its ``options``.
        rows: part to the Parquet file of its rows in the source language.
    """
    kept = SegmentStore(store)
    engines = _engines(specs, source, root)

    def units() -> Iterator[tuple[str, dict[str, Translation]]]:
        seen: set[bytes] = set()
        for part, path in rows.items():
            for these in slices(pq.ParquetFile(path)):
                texts = [text for row in these.to_pylist() for text in texts_of(row, fields_of(part))]
                fresh = [text for text in dict.fromkeys(texts) if text_digest(text) not in seen]
                seen.update(map(text_digest, fresh))
                found = {
                    code: stored(fresh, engine, kept) if engine.lock else translate_texts(fresh, engine, None)
                    for code, engine in engines.items()
                }
                for text in fresh:
                    yield text, {code: known[text] for code, known in found.items() if text in known}

    report(f"{write_tmx(output, source, units()):,} texts in {output}")


def import_memory(
    specs: Mapping[str, Mapping[str, Any]], source: str, memory: Path | None, store: Path, root: Path
) -> None:
    """Put a memory's translations into the store, under the engines that a study names."""
    if memory is None:
        report("nothing to import: name a TMX file in translation.memory")
        return
    kept = SegmentStore(store)
    count = 0
    for code, engine in _engines(specs, source, root).items():
        if engine.lock is not None:
            known = read_tmx(memory, source, code) or read_tmx(memory, source, split_variant(code)[0])
            adopt(known, engine, kept)
            count += len(known)
    report(f"{count:,} translations are in {store}")


def _engines(specs: Mapping[str, Mapping[str, Any]], source: str, root: Path) -> dict[str, Engine]:
    return {code: build_engine(spec, source, code, Machine(root)) for code, spec in specs.items()}
