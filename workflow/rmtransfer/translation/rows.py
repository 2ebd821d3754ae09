"""Translate a Parquet file of rows, a slice at a time, and say what became of every text."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rmtransfer.kit.progress import report
from rmtransfer.texts.corpus import Row, fields_of, slices, texts_of, write_ledger
from rmtransfer.translation import Engine
from rmtransfer.translation.memory import read_tmx
from rmtransfer.translation.pipeline import translate_texts
from rmtransfer.translation.store import SegmentStore, Translation, text_digest

MEASURES = ("language", "part", "engine", "measure", "reason", "value")


def translate_rows(
    rows_path: Path,
    part: str,
    language: str,
    engine: Engine,
    store_path: Path,
    output: Path,
    ledger: Path,
    measures: Path,
    *,
    budget: int | None = None,
    references: Path | None = None,
) -> None:
    """Write the rows whose every text passed the gates, a ledger of the others, and what was counted.

    Args:
        rows_path: Parquet file of rows in the language that the engine translates from.
        language: the study's code for the target, for the files.
        store_path: the translation store; an engine that costs nothing to ask needs none.
        output: Parquet file to write, in the order of the rows.
        ledger: CSV file to write: ``id, language, engine, reason`` of each row that is dropped.
        measures: CSV file to write: ``language, part, engine, measure, reason, value``. Measures count texts (``texts``,
            ``passed``, ``passed_after_retry``, ``refused``), pairs (``rows``, ``rows_kept``), source characters, billed
            characters, and ``chrf++`` against references.
        references: TMX file of human translations.
    """
    fields, name = fields_of(part), engine.scope.engine
    store = SegmentStore(store_path) if engine.lock is not None else None
    known = read_tmx(references, engine.source, engine.target) if references is not None else {}
    file = pq.ParquetFile(rows_path)
    count: Counter[tuple[str, str]] = Counter({("billed_characters", ""): 0})
    dropped: list[dict[str, Any]] = []
    compared: list[tuple[str, str]] = []
    billed_for: set[bytes] = set()  # digests: a text may come again in a later slice
    output.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(output, file.schema_arrow) as writer:
        # An engine without a store looks everything up at once, so that one message lists all that it lacks.
        for these in slices(file) if store is not None else [file.read()]:
            rows = these.to_pylist()
            texts = [text for row in rows for text in texts_of(row, fields)]
            translated = translate_texts(texts, engine, store, budget)
            for text in texts:
                _count_text(count, text, translated[text])
            for text, result in translated.items():
                if result.billed and text_digest(text) not in billed_for:
                    count["billed_characters", ""] += result.billed
                    billed_for.add(text_digest(text))
                if text in known:
                    compared.append((result.text, known[text].text))
            kept = []
            for row in rows:
                faults = _faults(row, fields, translated)
                if faults:
                    dropped.append({"id": row["id"], "language": language, "engine": name, "reason": "; ".join(faults)})
                else:
                    kept.append(_translated(row, fields, translated))
            count["rows", ""] += len(rows)
            count["rows_kept", ""] += len(kept)
            writer.write_table(pa.Table.from_pylist(kept, schema=file.schema_arrow))
    write_ledger(ledger, dropped, ("id", "language", "engine", "reason"))
    lines: list[tuple[str, str, float]] = [
        (measure, reason, value) for (measure, reason), value in sorted(count.items())
    ]
    if compared:
        lines.append(("chrf++", "", round(chrf_plus_plus(compared), 2)))
        lines.append(("chrf++_texts", "", len(compared)))
    with measures.open("w", encoding="utf-8", newline="") as table:
        out = csv.writer(table)
        out.writerow(MEASURES)
        out.writerows((language, part, name, *line) for line in lines)
    if dropped:
        report(f"{len(dropped):,} of {count['rows', '']:,} rows dropped, in all languages: see {ledger}")
    report(f"{count['rows_kept', '']:,} rows kept")


def chrf_plus_plus(pairs: Sequence[tuple[str, str]]) -> float:
    """Corpus chrF++ (Popović 2017, https://aclanthology.org/W17-4770) of (translation, reference) pairs, from 0 to 100."""
    from sacrebleu.metrics import CHRF

    hypotheses, references = zip(*pairs, strict=True)
    return CHRF(word_order=2).corpus_score(list(hypotheses), [list(references)]).score


def _count_text(count: Counter[tuple[str, str]], text: str, result: Translation) -> None:
    count["texts", ""] += 1
    count["characters", ""] += len(text)
    if result.flaws:
        count["refused", result.flaws[0]] += 1
    elif result.retried_for:
        count["passed_after_retry", result.retried_for[0]] += 1
    else:
        count["passed", ""] += 1


def _faults(row: Row, fields: Sequence[str], translated: Mapping[str, Translation]) -> list[str]:
    return [
        f"{field}: {', '.join(translated[message['content']].flaws)}"
        for field in fields
        for message in row[field]
        if translated[message["content"]].flaws
    ]


def _translated(row: Row, fields: Sequence[str], translated: Mapping[str, Translation]) -> Row:
    """The row with every message's content translated; id, subset and roles stay."""
    return {
        **row,
        **{f: [{**message, "content": translated[message["content"]].text} for message in row[f]] for f in fields},
    }
