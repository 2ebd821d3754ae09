"""Rows of constraints in: JSON Lines of ``key, prompt, instruction_id_list, kwargs``, as the IFEval family has them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rmtransfer.alignment.constraints.registry import Constraint, UnusableError, read_constraint
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.progress import report
from rmtransfer.study.languages import primary
from rmtransfer.texts.corpus import Row, load_rows, save_rows
from rmtransfer.texts.records import read_records

LEFT_OUT_COLUMNS = ("language", "id", "line", "reason")
_KEYS = ("key", "prompt", "instruction_id_list")
_ANSWER_LANGUAGE = "language:response_language"
_SHOWN = 10


def load_constraints(path: Path, language: str, languages: Sequence[str]) -> tuple[list[Row], pd.DataFrame]:
    """Read the rows of a language whose constraints can all be checked.

    A row is left out as a whole where one of its constraints

    - makes no sense in the language: upper and lower case in a script without (ko, zh), the frequency of a letter that the
      language is not written with (n in ko), words where nobody can count them (ja, th);
    - asks for an answer in another language: ``response_language``, or IFEval's "in English and in capitals" in a row that
      is not English and does not ask for its own language;
    - has no checker;

    or where it is no valid row (published files have some, Marco-Bench-MIF's Chinese one a line that is no JSON), which is
    reported.

    Args:
        path: a file of any format that :mod:`rmtransfer.texts.records` reads. ``kwargs`` has one object for each id, or fewer
            keys, nulls, or is missing where no constraint takes any; objects beyond the last id do not count.
        language: of the prompts.
        languages: of the study, in which a policy may answer as well.

    Returns:
        rows ``{id: str(key), prompt: [one message of the user], instructions: [Constraint, ...]}``, and a frame of
        ``language, id, line, reason`` of those left out; :func:`count_left_out` counts them.

    Raises:
        StudyError: no row is left.
    """
    rows: list[Row] = []
    left_out: list[tuple[str, str, int, str]] = []
    faults: list[str] = []
    lines: dict[str, int] = {}
    for line, record in read_records(path, str(path)):
        identity = ""
        try:
            identity, prompt, given = _parts(record)
            if identity in lines:
                raise ValueError(f"duplicate key, first used in line {lines[identity]}")
            lines[identity] = line
            instructions = _constraints(given, language, languages)
            rows.append({"id": identity, "prompt": [{"role": "user", "content": prompt}], "instructions": instructions})
        except UnusableError as why:
            left_out.append((language, identity, line, str(why)))
        except ValueError as problem:
            left_out.append((language, identity, line, "invalid row"))
            faults.append(f"  line {line}, key {identity or 'none'}: {problem}")
    if faults:
        more = [f"  ... and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
        count = f"{len(faults)} invalid row{'s are' if len(faults) > 1 else ' is'} left out"
        report("\n".join([f"{path}: {count}; mend the file if they are wanted", *faults[:_SHOWN], *more]))
    if not rows:
        reasons = "; ".join(dict.fromkeys([*(fault.strip() for fault in faults[:1]), *(row[3] for row in left_out)]))
        raise StudyError(
            f"{path}: holds no row whose constraints can be checked in {language} ({reasons}); name a file that "
            "has some, or leave constraints out"
        )
    return rows, pd.DataFrame(left_out, columns=list(LEFT_OUT_COLUMNS))


def count_left_out(left_out: pd.DataFrame) -> pd.DataFrame:
    """How many rows each reason left out: ``language, reason, rows``, most first within a language."""
    counts = left_out.groupby(["language", "reason"], sort=False).size().rename("rows").reset_index()
    return counts.sort_values("rows", ascending=False, kind="stable").sort_values(
        "language", kind="stable", ignore_index=True
    )


def _parts(record: Any) -> tuple[str, str, list[tuple[str, dict[str, Any]]]]:
    """Key, prompt and (id, arguments) of a record.

    Raises:
        ValueError: it is no row.
    """
    if isinstance(record, Exception):
        raise record
    if not isinstance(record, dict):
        raise ValueError(f"is not a JSON object but {type(record).__name__}")
    missing = [key for key in _KEYS if record.get(key) is None]
    if missing:
        raise ValueError(f"missing {', '.join(missing)}")
    key, prompt, ids = (record[name] for name in _KEYS)
    if isinstance(key, bool) or not isinstance(key, (int, str)) or not str(key).strip():
        raise ValueError(f"key must be a number or a string that is not empty, not {key!r}")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(f"prompt must be a string that is not empty, not {prompt!r}")
    if not isinstance(ids, list) or not ids or not all(isinstance(name, str) for name in ids):
        raise ValueError(f"instruction_id_list must be a list of strings that is not empty, not {ids!r}")
    kwargs = record.get("kwargs")
    if kwargs is None:
        kwargs = [{}] * len(ids)
    if not isinstance(kwargs, list) or not all(one is None or isinstance(one, dict) for one in kwargs):
        raise ValueError("kwargs must be a list of objects, one for each of instruction_id_list")
    if len(kwargs) < len(ids):
        raise ValueError(f"kwargs has {len(kwargs)} objects for {len(ids)} of instruction_id_list")
    return str(key), prompt, [(name, one or {}) for name, one in zip(ids, kwargs, strict=False)]


def _constraints(
    given: Sequence[tuple[str, dict[str, Any]]], language: str, languages: Sequence[str]
) -> list[Constraint]:
    """All constraints of a row, or why it is left out; that one is wrong is said before that another cannot be checked."""
    own_language = any(asked == primary(language) for asked in _answer_languages(given))
    found: list[Constraint] = []
    unusable: list[UnusableError] = []
    for identity, kwargs in given:
        try:
            found.append(read_constraint(identity, kwargs, language, languages, own_language))
        except UnusableError as why:
            unusable.append(why)
    if unusable:
        raise unusable[0]
    return found


def _answer_languages(given: Sequence[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    for identity, kwargs in given:
        if identity.endswith(_ANSWER_LANGUAGE):
            yield primary(str(kwargs.get("language")).lower())


def save_constraints(rows: Sequence[Row], path: Path) -> None:
    """Write rows of :func:`load_constraints` as Parquet, their constraints as JSON."""
    save_rows(
        [{**row, "instructions": json.dumps([one._asdict() for one in row["instructions"]])} for row in rows], path
    )


def load_saved(path: Path) -> list[Row]:
    """What :func:`save_constraints` wrote."""
    return [
        {**row, "instructions": [Constraint(**one) for one in json.loads(row["instructions"])]}
        for row in load_rows(path)
    ]
