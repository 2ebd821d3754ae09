"""What translating will ask of engines and cost, before it asks or costs anything."""

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow.parquet as pq

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.progress import report
from rmtransfer.study.languages import split_variant
from rmtransfer.texts.corpus import fields_of, texts_of
from rmtransfer.translation import Engine, Machine
from rmtransfer.translation.engines import PAID, build_engine
from rmtransfer.translation.pipeline import stored, unasked
from rmtransfer.translation.store import SegmentStore

COLUMNS = ("language", "engine", "texts", "unique", "stored", "segments", "characters")
_SLICE = 2_000
_NOTHING: Mapping[str, Mapping[str, int]] = MappingProxyType({})


def plan_translation(
    specs: Mapping[str, Mapping[str, Any]],
    source: str,
    rows: Mapping[str, Path],
    store: Path,
    root: Path,
    expected: Mapping[str, Mapping[str, int]] = _NOTHING,
) -> list[dict[str, Any]]:
    """What translating would ask of each engine; one entry per language with the keys ``COLUMNS``.

    Args:
        specs: language code to ``engine`` and its ``options``.
        rows: part to the Parquet file of its rows in the source language.
        expected: part to ``rows`` and ``characters`` a row, for parts that are not downloaded yet.

    ``segments`` and ``characters`` are those that the store does not hold yet.
    """
    return [_entry(code, spec, (source, code), rows, store, root, expected) for code, spec in specs.items()]


def plan_back(
    back: Mapping[str, Any],
    source: str,
    rows: Mapping[str, Path],
    store: Path,
    root: Path,
    expected: Mapping[str, Mapping[str, int]] = _NOTHING,
) -> list[dict[str, Any]]:
    """The same for translating a benchmark back into ``source``; entries are called ``<language> > <source>``.

    Args:
        back: ``spec``, the engine; ``part``, the benchmark; ``rows``, language code to the file of the benchmark in that
            language, which need not be there yet: it is then counted as if it were as long as in the source language.
        rows, expected: as for :func:`plan_translation`.
    """
    part = back["part"]
    entries = []
    for code, path in back["rows"].items():
        there = Path(path).is_file()
        known = {part: Path(path)} if there else {p: path for p, path in rows.items() if p == part}
        assumed = {} if there else {p: assumed for p, assumed in expected.items() if p == part}
        direction = (split_variant(code)[0], source)
        entries.append(_entry(f"{code} > {source}", back["spec"], direction, known, store, root, assumed))
    return entries


def _entry(
    name: str,
    spec: Mapping[str, Any],
    direction: tuple[str, str],
    rows: Mapping[str, Path],
    store: Path,
    root: Path,
    expected: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    engine = build_engine(spec, *direction, Machine(root))
    kept = SegmentStore(store) if _is_known(engine) else None
    seen: set[str] = set()
    segments: dict[str, int] = {}
    texts = 0
    for part, path in rows.items():
        for batch in pq.ParquetFile(path).iter_batches(_SLICE):
            these = [text for row in batch.to_pylist() for text in texts_of(row, fields_of(part))]
            texts += len(these)
            fresh = [text for text in dict.fromkeys(these) if text not in seen]
            seen.update(fresh)
            if engine.lock is not None:
                segments.update({prose: len(prose) for prose in unasked(fresh, engine, kept)})
    held = len(seen) if engine.lock is None else len(stored(seen, engine, kept))
    entry = [texts, len(seen), held, len(segments), sum(segments.values())]
    for part, assumed in expected.items():
        more = assumed["rows"] * len(fields_of(part))
        characters = assumed["rows"] * assumed["characters"]
        entry = [a + b for a, b in zip(entry, (more, more, 0, more, characters), strict=True)]
    return dict(zip(COLUMNS, (name, spec["engine"], *entry), strict=True))


def _is_known(engine: Engine) -> bool:
    """Whether it can be said which model an engine runs: a base of the study that is not prepared has answered nothing."""
    try:
        return bool(engine.scope)
    except StudyError:
        return False


def check_budget(
    specs: Mapping[str, Mapping[str, Any]],
    back: Mapping[str, Any] | None,
    source: str,
    rows: Mapping[str, Path],
    translated: Collection[str],
    store: Path,
    budget: int,
    root: Path,
    output: Path,
) -> None:
    """Write a CSV file of what paid engines will be asked for, ``COLUMNS``; or refuse to start.

    Args:
        specs: as for :func:`plan_translation`.
        rows: part to the Parquet file of its rows in the source language.
        translated: the parts that are translated from there; another may only be translated back.
        back: as for :func:`plan_back`; None where nothing is translated back.

    Raises:
        StudyError: see :func:`refuse_beyond`.
    """
    paid = {code: spec for code, spec in specs.items() if spec["engine"] in PAID}
    entries = plan_translation(paid, source, {part: rows[part] for part in translated}, store, root)
    if back is not None and back["spec"]["engine"] in PAID:
        entries += plan_back(back, source, rows, store, root)
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


def quota_sentence(engines: Iterable[tuple[Mapping[str, Any], str, str]], root: Path) -> str:
    """What is left of the account of a paid engine, if the study uses one; empty else.

    Args:
        engines: each with the language it translates from and the one it translates into.
    """
    paid = next((engine for engine in engines if engine[0]["engine"] in PAID), None)
    if paid is None:
        return ""
    engine: Any = build_engine(*paid, Machine(root))
    try:
        quota = engine.quota()
    except StudyError as problem:
        return f"quota: unknown, {str(problem).partition(';')[0]}"
    return "quota: unlimited" if quota is None else f"quota: {quota[1] - quota[0]:,} of {quota[1]:,} characters left"
