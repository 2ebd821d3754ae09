"""What translating will ask of engines and cost, before it asks or costs anything."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow.parquet as pq

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.progress import report
from rmtransfer.texts.corpus import fields_of, slices, texts_of
from rmtransfer.translation import Engine, Machine
from rmtransfer.translation.engines import PAID, build_engine
from rmtransfer.translation.pipeline import stored, unasked
from rmtransfer.translation.store import SegmentStore, text_digest

COLUMNS = ("language", "engine", "texts", "unique", "stored", "segments", "characters")
_NOTHING: Mapping[str, Mapping[str, int]] = MappingProxyType({})


def plan_translation(
    ways: Sequence[Mapping[str, Any]],
    rows: Mapping[str, Path],
    store: Path,
    root: Path,
    expected: Mapping[str, Mapping[str, int]] = _NOTHING,
) -> list[dict[str, Any]]:
    """What translating would ask of each engine; one entry per way with the keys ``COLUMNS``.

    Args:
        ways: what is translated into what, see :meth:`rmtransfer.study.study.Study.ways`. Texts that are not there yet,
            because they are to be translated themselves, count as if they were as long as in the source language.
        rows: part to the Parquet file of its rows in the source language.
        expected: part to ``rows`` and ``characters`` a row, for parts that are not downloaded yet.

    ``segments`` and ``characters`` are those that the store does not hold yet.
    """
    return [_entry(way, rows, store, root, expected) for way in ways]


def _entry(
    way: Mapping[str, Any],
    rows: Mapping[str, Path],
    store: Path,
    root: Path,
    expected: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    engine = build_engine(way["spec"], way["source"], way["target"], Machine(root))
    kept = SegmentStore(store) if _is_known(engine) else None
    seen: set[bytes] = set()
    segments: dict[str, int] = {}
    texts = held = 0
    assumed = []
    for part, wanted in way["rows"].items():
        path = Path(wanted) if Path(wanted).is_file() else rows.get(part)
        if path is None:
            if part in expected:
                assumed.append((expected[part]["rows"], expected[part]["characters"], len(fields_of(part))))
            continue
        for table in slices(pq.ParquetFile(path)):
            these = [text for row in table.to_pylist() for text in texts_of(row, fields_of(part))]
            texts += len(these)
            fresh = [text for text in dict.fromkeys(these) if text_digest(text) not in seen]
            seen.update(map(text_digest, fresh))
            held += len(fresh if engine.lock is None else stored(fresh, engine, kept))
            if engine.lock is not None:
                segments.update({prose: len(prose) for prose in unasked(fresh, engine, kept)})
    entry = [texts, len(seen), held, len(segments), sum(segments.values())]
    for count, characters, fields in assumed:
        more = (count * fields, count * fields, 0, count * fields, count * characters)
        entry = [a + b for a, b in zip(entry, more, strict=True)]
    return dict(zip(COLUMNS, (way["language"], way["spec"]["engine"], *entry), strict=True))


def _is_known(engine: Engine) -> bool:
    """Whether it can be said which model an engine runs: a base of the study that is not prepared has answered nothing."""
    try:
        return bool(engine.scope)
    except StudyError:
        return False


def check_budget(
    ways: Sequence[Mapping[str, Any]], rows: Mapping[str, Path], store: Path, budget: int, root: Path, output: Path
) -> None:
    """Write a CSV file of what paid engines will be asked for, ``COLUMNS``; or refuse to start.

    Args:
        ways, rows: as for :func:`plan_translation`.

    Raises:
        StudyError: see :func:`refuse_beyond`.
    """
    paid = [way for way in ways if way["spec"]["engine"] in PAID]
    entries = plan_translation(paid, rows, store, root)
    refuse_beyond(budget, entries, store)
    with output.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(entries)
    report("the budget suffices")


def refuse_beyond(budget: int, entries: Sequence[Mapping[str, Any]], store: Path) -> None:
    """Refuse to start what the budget cannot pay.

    Raises:
        StudyError: what was billed to the store and what is to come exceed ``budget``.
    """
    for engine in PAID:
        coming = sum(entry["characters"] for entry in entries if entry["engine"] == engine)
        spent = SegmentStore(store).billed(engine)
        if coming and spent + coming > budget:
            each = ", ".join(f"{e['language']} {e['characters']:,}" for e in entries if e["engine"] == engine)
            raise StudyError(
                f"translation.budget_characters: {budget:,} do not suffice: {engine} has billed {spent:,} to {store}, and "
                f"{coming:,} are to come ({each}). Nothing was asked; raise the budget, or translate less"
            )


def quota_sentence(ways: Iterable[Mapping[str, Any]], root: Path) -> str:
    """What is left of the account of a paid engine, if one of the ways uses one; empty else."""
    paid = next((way for way in ways if way["spec"]["engine"] in PAID), None)
    if paid is None:
        return ""
    engine: Any = build_engine(paid["spec"], paid["source"], paid["target"], Machine(root))
    try:
        quota = engine.quota()
    except StudyError as problem:
        return f"quota: unknown, {str(problem).partition(';')[0]}"
    return "quota: unlimited" if quota is None else f"quota: {quota[1] - quota[0]:,} of {quota[1]:,} characters left"
