"""One id list: the rows that are valid in every language.

Languages that need more tokens would otherwise lose other rows than the rest, and reward models would be compared that
were trained on different data.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.progress import report
from rmtransfer.study.sections import item_of
from rmtransfer.texts.corpus import Row, iter_rows, same_answers, save_ids, write_ledger

_MISSING = "not in this language: missing in its file, or dropped by translation (its ledger says why)"
BENCHMARKS = ("benchmark", "language", "origin", "translator", "rows", "clusters")


class Reading(NamedTuple):
    """What the study's base models make of a row.

    Attributes:
        tokens: of its longest conversation, under the hungriest of their tokenizers.
        refused: why the chat template of one of them does not render it; None if all do.
        alike: to which of them both answers are the same token ids, as a sentence; None if to none.
    """

    tokens: int
    refused: str | None = None
    alike: str | None = None


def select_rows(
    rows: Mapping[str, Iterable[Row]],
    read: Callable[[Row], Reading] | None = None,
    max_length: int | None = None,
    item_of: Callable[[str], str] | None = None,
) -> tuple[list[str], list[dict[str, Any]]]:
    """Ids valid in every language, in the order of the first language, and a ledger entry for each row dropped.

    Args:
        rows: language to rows, which are gone through once; the first language is the source.
        read: what base models make of a row; None where there are none.
        max_length: the most tokens a row may have in any language, of rows to train on: those also need answers that differ to
            every base. None for others.
        item_of: id of a row to the item it belongs to, where an item is several rows, of use only together.

    Raises:
        StudyError: no row is valid in every language.
    """
    source = next(iter(rows))
    # A number for each id, in the order in which they came: bit k is set where the k-th language has it.
    languages: dict[str, int] = {}
    faults: dict[str, dict[str, str]] = {}
    for k, (language, these) in enumerate(rows.items()):
        for row in these:
            languages[row["id"]] = languages.get(row["id"], 0) | 1 << k
            if fault := _fault(row, read, max_length):
                faults.setdefault(row["id"], {})[language] = fault
    kept: list[str] = []
    dropped: list[dict[str, Any]] = []
    for identity, found in languages.items():
        missing = {language: _MISSING for k, language in enumerate(rows) if not found >> k & 1}
        reason_in = {**missing, **faults.get(identity, {})}
        dropped.extend(
            {"id": identity, "language": language, "reason": reason_in[language]}
            for language in rows
            if language in reason_in
        )
        if not reason_in:
            kept.append(identity)
    if item_of is not None:
        broken = {item_of(entry["id"]) for entry in dropped}
        reason = "another row of the same item was dropped"
        dropped.extend({"id": i, "language": source, "reason": reason} for i in kept if item_of(i) in broken)
        kept = [identity for identity in kept if item_of(identity) not in broken]
    if not kept:
        reasons = sorted({entry["reason"] for entry in dropped})
        raise StudyError(f"no row is valid in every language ({source} and {len(rows) - 1} more): {'; '.join(reasons)}")
    return kept, dropped


def select_parts(
    rows: Mapping[str, Mapping[str, Path]],
    ids: Mapping[str, Path],
    dropped: Mapping[str, Path],
    digests: Path,
    benchmarks: Path,
    *,
    read: Callable[[Row], Reading] | None,
    max_length: Mapping[str, int],
    several_rows: Collection[str],
    origins: Mapping[str, Mapping[str, Sequence[str]]],
) -> None:
    """Decide for every part of the study which rows it keeps, and write that down.

    Args:
        rows: part to language to Parquet file, the source language first.
        ids, dropped: part to the id list, and to the ledger, to write.
        digests: JSON file to write: by part and language, a digest of what the selected rows hold.
        benchmarks: CSV file to write, a line for each benchmark and language: ``benchmark, language, origin, translator, rows,
            clusters``, where ``origin`` is original, translated, round trip or native (written in that language),
            ``translator`` the engine, empty where none of the study's, and ``clusters`` the number of independent ones among
            the ``rows`` that are kept.
        read: as in :func:`select_rows`.
        max_length: part to the most tokens of a row, of parts to train on.
        several_rows: parts of which an item is several rows (RewardBench 2).
        origins: benchmark to language to origin and translator.
    """
    held = {}
    lines: list[tuple[object, ...]] = []
    for part, files in rows.items():
        # Read twice: a large corpus in many languages fits no memory.
        kept, faults = select_rows(
            _opened(files), read, max_length.get(part), item_of if part in several_rows else None
        )
        write_ledger(dropped[part], faults)
        save_ids(kept, ids[part])
        held[part] = digests_of(_opened(files), kept)
        for language, origin in origins.get(part, {}).items():
            row_of = {row["id"]: row for row in iter_rows(files[language], ("id", "cluster"))}
            unit = item_of if part in several_rows else str
            clusters = {row_of[identity].get("cluster", unit(identity)) for identity in kept}
            lines.append((part, language, *origin, len(kept), len(clusters)))
        report(f"{part}: {len(kept):,} rows kept, {len({d['id'] for d in faults}):,} dropped in all languages")
    digests.write_text(json.dumps(held, indent=1), encoding="utf-8")
    write_ledger(benchmarks, (dict(zip(BENCHMARKS, line, strict=True)) for line in lines), BENCHMARKS)


def digests_of(rows: Mapping[str, Iterable[Row]], ids: Sequence[str]) -> dict[str, str]:
    """By language, a digest of what the rows with these ids hold, in this order: SHA-256 of their list as JSON.

    Args:
        rows: language to rows, which are gone through once; what comes before its turn is kept until then.
    """
    wanted = set(ids)
    digests = {}
    for language, these in rows.items():
        digest, early, turn = hashlib.sha256(b"["), dict[str, str](), 0
        for row in these:
            if row["id"] in wanted:
                early[row["id"]] = json.dumps(row, sort_keys=True, ensure_ascii=False)
            while turn < len(ids) and ids[turn] in early:
                digest.update(((", " if turn else "") + early.pop(ids[turn])).encode())
                turn += 1
        digest.update(b"]")
        digests[language] = digest.hexdigest()
    return digests


def _opened(files: Mapping[str, Path]) -> dict[str, Iterator[Row]]:
    return {language: iter_rows(path) for language, path in files.items()}


def _fault(row: Row, read: Callable[[Row], Reading] | None, max_length: int | None) -> str | None:
    if same_answers(row):
        return "chosen and rejected are identical after translation"
    if read is None:
        return None
    reading = read(row)
    if reading.refused or max_length is None:
        return reading.refused
    if reading.alike:
        return reading.alike
    if reading.tokens > max_length:
        return f"{reading.tokens} tokens, more than training.max_length = {max_length}"
    return None
