"""Rows in, validated, one schema.

A *row* is a dict with ``id``, optional ``subset`` and ``cluster``, ``prompt`` and, for pairs, ``chosen`` and ``rejected``. Inside the
study each text is a list of messages ``{"role", "content"}``, the conversational format of TRL: a plain string becomes
one message. Rows rest in Parquet; whatever did not become a row rests in a ledger.
"""

import csv
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rmtransfer.kit.errors import StudyError, first_line
from rmtransfer.kit.progress import report
from rmtransfer.study.languages import filled_in
from rmtransfer.study.names import HELD_OUT, INSTRUCTIONS, SIDES
from rmtransfer.study.sections import check_subsets
from rmtransfer.texts.clusters import Clusters
from rmtransfer.texts.records import SLICE, read_records

Message = dict[str, str]
Row = dict[str, Any]

MESSAGE_ROLES = ("system", "user", "assistant")
_KEYS = {"role", "content"}  # of a message
PAIR_FIELDS = ("prompt", "chosen", "rejected")
LEDGER_COLUMNS = ("file", "line", "id", "language", "reason")
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
ROW_NUMBER = "{row}"  # in place of an id column, for a data set at a fixed revision that has none
_SHOWN = 10


def fields_of(part: str) -> tuple[str, ...]:
    """The text fields of the rows of a part: ``preferences``, ``instructions`` or the name of a benchmark."""
    return ("prompt",) if part in (INSTRUCTIONS, HELD_OUT) else PAIR_FIELDS


def import_rows(
    entry: Mapping[str, Any],
    part: str,
    language: str,
    root: Path,
    output: Path,
    ledger: Path,
    sections: str | None = None,
    original: Path | None = None,
) -> None:
    """Read, validate and store the rows that one config entry names, a few thousand in memory at a time.

    Args:
        entry: the config entry: ``path`` or ``hub`` with ``revision``, ``split`` and ``name``, ``codes``, ``columns``,
            ``invalid_rows``; ``sections: rewardbench2`` where a record holds lists of answers.
        part: ``preferences``, ``instructions`` or the name of a benchmark.
        language: fills ``{language}`` in the path or the name.
        root: folder that a relative path starts from.
        output: Parquet file to write.
        ledger: CSV file to write: every rejected row with file, line and reason. It is written before this function
            raises, so that it can be read after a stop.
        sections: of a benchmark, the table that must know every row's subset.
        original: Parquet file of the same rows in the source language, where these are a translation: their clusters count.

    Raises:
        StudyError: a row is invalid and ``invalid_rows`` is ``stop``, a subset is in no section, ``columns`` name a column of
            clusters that no row has, or no row is left.
    """
    columns, codes = entry.get("columns", {}), entry.get("codes", "bcp47")
    if "hub" in entry:
        configuration = filled_in(entry["name"], language, codes) if "name" in entry else None
        entry = {**entry, "split": filled_in(entry["split"], language, codes)}
        name = f"hub:{entry['hub']}@{entry['revision']}" + (f"/{configuration}" if configuration else "")
        records: Iterable[tuple[int, Any]] = _read_hub(entry, configuration, fields_of(part), columns)
    else:
        name = filled_in(entry["path"], language, codes)
        records = read_records(root / name, name)
    if entry.get("sections") == "rewardbench2":
        records = _pairs_of_lists(records, columns)
        columns = {**columns, "id": "id"}
    rejected: list[dict[str, Any]] = []
    clusters = Clusters(None if original is None else iter_rows(original, ("id", "cluster")))
    output.parent.mkdir(parents=True, exist_ok=True)
    # Whether there are clusters at all the last row may decide: all rows are written twice, and none stays in memory.
    with tempfile.TemporaryFile(dir=output.parent) as draft:
        count = _write_draft(valid_rows(records, fields_of(part), columns, rejected), fields_of(part), clusters, draft)
        write_ledger(ledger, ({"file": name, "language": language, **fault} for fault in rejected))
        if rejected and (not count or entry["invalid_rows"] == "stop"):
            key = f"benchmarks.{part}" if sections else part
            raise StudyError(_invalid(rejected, name, key, ledger, none_left=not count))
        if not count:
            raise StudyError(f"{name}: holds no row; {part} needs at least one")
        if sections is not None:
            check_subsets(iter_rows(draft, ("id", "subset")), sections, name)
        if "cluster" in columns and not clusters.named:
            raise StudyError(
                f"{name}: no row has {columns['cluster']!r}, which columns.cluster names; correct it or remove it"
            )
        clusters.say()
        _write_rows(draft, output)
    report(f"{count:,} rows")


def _write_draft(rows: Iterator[Row], fields: Sequence[str], clusters: Clusters, draft: IO[bytes]) -> int:
    """Write rows as Parquet, with a ``cluster`` that may be null; return their number."""
    schema, count = _schema(("id", "subset", "cluster", *fields)), 0
    with pq.ParquetWriter(draft, schema) as writer:
        while these := list(islice(rows, SLICE)):
            clustered = [{**row, "cluster": clusters.of(row)} for row in these]
            writer.write_table(pa.Table.from_pylist(clustered, schema=schema))
            count += len(these)
    return count


def _write_rows(draft: IO[bytes], output: Path) -> None:
    """Write a draft's rows: where any is in a cluster with others, one that is not has its own id there; else without."""
    with pq.ParquetFile(draft) as file:
        schema = file.schema_arrow
        column = schema.get_field_index("cluster")
        if all(table["cluster"].null_count == len(table) for table in slices(file, ["cluster"])):
            schema = schema.remove(column)
        with pq.ParquetWriter(output, schema) as writer:
            for table in slices(file):
                filled = table.set_column(column, "cluster", pc.coalesce(table["cluster"], table["id"]))
                writer.write_table(filled.select(schema.names))


def _invalid(rejected: Sequence[Mapping[str, Any]], name: str, key: str, ledger: Path, *, none_left: bool) -> str:
    remedy = (
        f"No row is valid: mend the file, or say in {key}.columns what its columns are called (all are listed in {ledger})."
        if none_left
        else f"Mend the file, or set {key}.invalid_rows: drop to go on without them (all are listed in {ledger})."
    )
    shown = [f"  line {r['line']}, id {r['id'] or 'none'}: {r['reason']}" for r in rejected[:_SHOWN]]
    more = [f"  ... and {len(rejected) - _SHOWN} more"] if len(rejected) > _SHOWN else []
    return "\n".join([f"{name}: {len(rejected)} invalid row{'s' if len(rejected) > 1 else ''}", *shown, *more, remedy])


def valid_rows(
    records: Iterable[tuple[int, Any]],
    fields: Sequence[str],
    columns: Mapping[str, str],
    rejected: list[dict[str, Any]],
) -> Iterator[Row]:
    """Raw records as normalised rows; those that are none become ledger entries (``line``, ``id``, ``reason``).

    Args:
        records: (line number from 1, record); a record that is an Exception could not be read at all.
        fields: text fields every row must have.
        columns: rename map, our column name to the file's.
        rejected: is extended, entry by entry, as records are read.
    """
    first_line: dict[str, int] = {}
    for line, record in records:
        identity = ""
        try:
            if isinstance(record, Exception):
                raise record
            if not isinstance(record, dict):
                raise ValueError(f"is not a JSON object but {type(record).__name__}")
            identity = _identity(record, columns.get("id", "id"), line)
            if identity in first_line:
                raise ValueError(f"duplicate id, first used in line {first_line[identity]}")
            row = {"id": identity, **_normalise(record, fields, columns)}
        except ValueError as problem:
            rejected.append({"line": line, "id": identity, "reason": str(problem)})
        else:
            first_line[identity] = line
            yield row


def _identity(record: Mapping[str, Any], columns: str | Sequence[str], line: int) -> str:
    if columns == ROW_NUMBER:
        return str(line)
    if not isinstance(columns, str):  # a data set that numbers its rows by subset, say
        parts = [record.get(column) for column in columns]
        if None in parts:
            raise ValueError(f"missing id (columns {', '.join(columns)})")
        return "/".join(map(str, parts))
    value = record.get(columns)
    if value is None:
        raise ValueError("missing id")
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"id must be a non-empty string, not {value!r}")
    return value


def _normalise(record: Mapping[str, Any], fields: Sequence[str], columns: Mapping[str, Any]) -> Row:
    subset = record.get(columns.get("subset", "subset"))
    if subset is not None and not isinstance(subset, str):
        raise ValueError(f"subset must be a string, not {type(subset).__name__}")
    row: Row = {"subset": subset}
    cluster = record.get(columns.get("cluster", "cluster"))
    if cluster is not None:
        if not isinstance(cluster, str) or not cluster.strip():
            raise ValueError(
                f"cluster must be a non-empty string, not {cluster!r}; leave it out where a row is by itself"
            )
        row["cluster"] = cluster
    for field in fields:
        column = columns.get(field, field)
        if record.get(column) is None:
            raise ValueError(f"missing {field}" + (f" (column {column})" if column != field else ""))
        row[field] = _messages(record[column], field)
    if same_answers(row):
        raise ValueError("chosen and rejected are identical")
    return row


def same_answers(row: Row) -> bool:
    """Whether a row is a pair whose answers say the same."""
    if "chosen" not in row:
        return False
    chosen, rejected = ([message["content"].strip() for message in row[side]] for side in SIDES)
    return chosen == rejected


def _messages(value: Any, field: str) -> list[Message]:
    """``value`` as messages; a string is one message of the role that the field implies."""
    if isinstance(value, str):
        value = [{"role": "user" if field == "prompt" else "assistant", "content": value}]
    if not isinstance(value, list) or not value:
        raise ValueError(f"{field} must be a string or a list of messages, not {type(value).__name__}")
    messages = []
    for message in value:
        # Arrow gives every message the keys of all, those that it has not with null.
        given = [k for k, v in message.items() if v is not None or k in _KEYS] if isinstance(message, dict) else []
        if {*given} != _KEYS:
            has = (
                f"this one has {', '.join(map(str, given)) or 'none'}" if isinstance(message, dict) else "this is none"
            )
            raise ValueError(f"{field}: a message must have exactly the keys role and content, and {has}")
        role, content = message["role"], message["content"]
        if role not in MESSAGE_ROLES:
            raise ValueError(f"{field}: role {role!r} is none of {', '.join(MESSAGE_ROLES)}")
        if not isinstance(content, str):
            raise ValueError(f"{field}: content must be a string, not {type(content).__name__}")
        if not content.strip():
            raise ValueError(f"{field} is empty")
        messages.append({"role": role, "content": content})
    check_shape(field, [message["role"] for message in messages])
    return messages


def check_shape(field: str, roles: Sequence[str]) -> None:
    """Whether the messages of a field, by their roles, are a prompt, or an answer to one.

    A prompt is at most one system message, which is the first, and then turns, the last of them the user's. An answer is
    messages of the assistant: of an answer that is started for the model, the start belongs to it and not to the prompt.

    Raises:
        ValueError: they are not.
    """
    if field != "prompt":
        other = next((role for role in roles if role != "assistant"), None)
        if other is not None:
            raise ValueError(
                f"{field}: holds a message of role {other!r}, and an answer is messages of the assistant alone; what "
                "comes before it belongs into prompt, and what comes after it nowhere"
            )
        return
    if "system" in roles[1:]:
        raise ValueError("prompt: has a system message that is not the first message, or several; join them in front")
    if roles[-1] != "user":
        started = "; the start of an answer belongs into chosen and rejected" if roles[-1] == "assistant" else ""
        raise ValueError(f"prompt: ends with a message of role {roles[-1]!r} instead of the user's{started}")


def _pairs_of_lists(records: Iterable[tuple[int, Any]], columns: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
    """Records with several chosen and rejected answers (RewardBench 2) as pairs that hold every answer.

    Pair k of an item sets chosen answer i = k mod c against rejected answer j = k mod r; its id is ``<item>/<i>/<j>``.
    """
    lists = [columns.get(side, side) for side in ("chosen", "rejected")]
    for line, record in records:
        if not isinstance(record, dict):
            yield line, record
            continue
        answers: list[Any] = [record.get(column) for column in lists]
        try:
            identity = _identity(record, columns.get("id", "id"), line)
            if not all(isinstance(these, list) and these for these in answers):
                raise ValueError(f"{' and '.join(lists)} must be lists of answers")
        except ValueError as problem:
            yield line, problem
            continue
        chosen, rejected = answers
        for k in range(max(len(chosen), len(rejected))):
            i, j = k % len(chosen), k % len(rejected)
            pair = {**record, lists[0]: chosen[i], lists[1]: rejected[j], "id": f"{identity}/{i}/{j}"}
            yield line, pair


def _read_hub(
    entry: Mapping[str, Any], configuration: str | None, fields: Sequence[str], columns: Mapping[str, Any]
) -> Iterator[tuple[int, Any]]:
    import datasets

    name = f"hub data set {entry['hub']!r} at revision {entry['revision']!r}"
    try:
        data = datasets.load_dataset(entry["hub"], configuration, revision=entry["revision"], split=entry["split"])
    except Exception as problem:  # the client, the network and the server each raise their own
        raise StudyError(
            f"{name} cannot be read (configuration {configuration!r}, split {entry['split']!r}): {first_line(problem)}"
        ) from problem
    wanted = [columns.get(field, field) for field in ("id", *fields)]
    flat = [c for column in wanted for c in ([column] if isinstance(column, str) else column) if c != ROW_NUMBER]
    missing = [column for column in flat if column not in data.column_names]
    if missing:
        raise StudyError(
            f"{name} has no column {', '.join(missing)} but {', '.join(data.column_names)}; name its columns in "
            "columns: {ours: theirs}"
        )
    return enumerate(iter(data), 1)


def save_rows(rows: Sequence[Row], path: Path) -> None:
    """Write rows as Parquet; columns are those of the first row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=_schema(rows[0])), path)


def _schema(columns: Iterable[str]) -> pa.Schema:
    kinds = dict.fromkeys((*PAIR_FIELDS, "answer"), _MESSAGES) | {"sample": pa.int32(), "finished": pa.bool_()}
    return pa.schema([(column, kinds.get(column, pa.string())) for column in columns])


def iter_rows(path: Path | IO[bytes], columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Rows of a Parquet file, a few thousand in memory at a time; with ``columns``, those of them that it has."""
    with pq.ParquetFile(path) as file:
        wanted = None if columns is None else [c for c in columns if c in file.schema_arrow.names]
        for table in slices(file, columns=wanted):
            yield from table.to_pylist()


def slices(file: pq.ParquetFile, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """A Parquet file's rows, a few thousand at a time, with these columns or all.

    A row group at a time: asked for several, Arrow reads the last one into memory before it gives the first.
    """
    for group in range(file.num_row_groups):
        for batch in file.iter_batches(SLICE, row_groups=[group], columns=columns):
            yield pa.Table.from_batches([batch])


def load_rows(path: Path, ids: Sequence[str] | None = None) -> list[Row]:
    """Rows of a Parquet file; with ``ids``, those rows in that order."""
    rows = pq.read_table(path).to_pylist()
    if ids is None:
        return rows
    by_id = {row["id"]: row for row in rows}
    return [by_id[identity] for identity in ids]


def load_selected(path: Path, ids: Path | None) -> list[Row]:
    """Rows of a Parquet file that an id list names, in its order; all of them without one."""
    return load_rows(path, load_ids(ids) if ids else None)


def save_ids(ids: Sequence[str], path: Path) -> None:
    """Write an id list, one JSON string a line (an id may hold any character)."""
    path.write_text("".join(json.dumps(i, ensure_ascii=False) + "\n" for i in ids), encoding="utf-8")


def load_ids(path: Path) -> list[str]:
    """Read what :func:`save_ids` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def texts_of(row: Row, fields: Sequence[str]) -> list[str]:
    """The contents of a row's messages, in order."""
    return [message["content"] for field in fields for message in row[field]]


def write_ledger(path: Path, entries: Iterable[Mapping[str, Any]], columns: Sequence[str] = LEDGER_COLUMNS) -> None:
    """Write dropped rows as CSV; always written, so that an empty ledger says that nothing was dropped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(entries)


def read_ledger(path: Path) -> list[dict[str, str]]:
    """Read what :func:`write_ledger` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
