"""What a study's models make of the rows of the source language, before anything is spent on them: chat templates and lengths."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from rmtransfer.kit.errors import StudyError, first_line
from rmtransfer.kit.progress import report
from rmtransfer.models import chat
from rmtransfer.models.reading import check_max_length, most_tokens
from rmtransfer.study.names import SIDES
from rmtransfer.texts.corpus import Row, load_rows
from rmtransfer.texts.selection import Reading

_SHOWN = 5
_BASE, _OTHERS = "base_models.", "reward_models."


def check_templates(
    models: Mapping[str, Mapping[str, Any]],
    rows: Mapping[str, Path],
    stop_at: Collection[str],
    max_length: int,
    root: Path,
    output: Path,
) -> None:
    """Try every model's chat template, on each shape of conversation and on every row of the source language.

    Beside it, whether the bases read as much as the study trains on, every model as much as its benchmarks ask, and encoders
    their special tokens.

    A row that a base refuses is dropped in selection or stops the study, as its ``invalid_rows`` says: the base's models could not be
    compared on it. A row that a reward model of others refuses always stops it: whether that model or the row goes is for the
    user to decide.

    Args:
        models: by config key, bases first, see :meth:`rmtransfer.study.study.Study.templates`.
        rows: part to Parquet file.
        stop_at: parts of which no base may refuse a row (``invalid_rows: stop``).
        max_length: the config's ``training.max_length``.
        root: folder that relative paths start from.
        output: JSON file to write: under ``templates``, by config key, what :func:`rmtransfer.models.chat.probe_template` says, and
            under ``refused``, by part and id, why a base does not render a row.

    Raises:
        StudyError: a template is of no use; bases refuse a row of one of ``stop_at``, or all rows of a part; another model
            refuses a row that the bases take, or its system message; a base reads less than ``max_length``.
    """
    tokenizers = {key: _tokenizer(key, options, root) for key, options in models.items()}
    longest = {key: options.get("max_length") or _most(key, options, root) for key, options in models.items()}
    bases = [key for key in models if key.startswith(_BASE)]
    for key in bases:
        check_max_length(max_length, longest[key], key.removeprefix(_BASE))
    templates = {
        key: chat.probe_template(tokenizers[key], key) for key, options in models.items() if not options.get("pair")
    }
    loaded = {part: load_rows(path) for part, path in rows.items()}
    refused: dict[str, dict[str, str]] = {part: {} for part in rows}
    for key in bases:
        read = chat.row_reader({key: tokenizers[key]})
        for part, these in loaded.items():
            readings = {row["id"]: read(row) for row in these}
            refused[part] |= {i: one.refused for i, one in readings.items() if one.refused and i not in refused[part]}
            if part in models[key]["parts"]:
                _check_lengths(part, readings, longest[key], key)
    problems: list[str] = []
    for part, why in refused.items():
        if why:
            said = list(_listed(part, why, len(loaded[part])))
            report("\n".join(said))
            problems += said if part in stop_at or len(why) == len(loaded[part]) else []
    for key, options in models.items():
        if key in bases:
            continue
        if options.get("system") and templates[key]["system"] != "rendered":
            problems.append(
                f"{key}.system: the chat template does not render a system message: {templates[key]['system']}"
            )
        if options.get("pair") is False:
            chat.check_special_tokens(tokenizers[key], _loaded(AutoConfig, key, options, root), key)
        read = _reader_of_others(key, options, tokenizers[key])
        for part in options["parts"]:
            left = [row for row in loaded[part] if row["id"] not in refused[part]]
            readings = {row["id"]: read(row) for row in left}
            problems += _listed(part, {i: one.refused for i, one in readings.items() if one.refused}, len(left))
            _check_lengths(part, readings, longest[key], key)
    output.parent.mkdir(parents=True, exist_ok=True)
    found = {"templates": templates, "refused": refused}
    output.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if problems:
        raise StudyError(
            "\n".join(problems)
            + "\nName another template in chat_template of that model, mend or remove the rows, or leave out the model; rows that "
            "a base refuses can also be dropped: invalid_rows: drop, beside their path."
        )


def _reader_of_others(
    key: str, options: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase
) -> Callable[[Row], Reading]:
    if not options.get("pair"):
        return chat.row_reader({key: tokenizer}, whole=not key.startswith(_OTHERS))
    return lambda row: Reading(
        max(len(chat.encode_pair(tokenizer, row["prompt"], row[side])["input_ids"]) for side in SIDES)
    )


def _check_lengths(part: str, readings: Mapping[str, Reading], most: int | None, key: str) -> None:
    does = f", or raise {key}.max_length if the model does read more" if key.startswith(_OTHERS) else ""
    lengths = ((one.tokens, f"row {identity!r} of {part}") for identity, one in readings.items())
    chat.check_lengths(lengths, most, key, f"remove the row{does}")


def _listed(part: str, refused: Mapping[str, str], rows: int) -> Iterator[str]:
    """Lines that say which rows of a part are refused, and why."""
    if refused:
        yield f"{part}: {len(refused):,} of {rows:,} rows are refused by a chat template"
        yield from (f"  row {identity!r}: {why}" for identity, why in list(refused.items())[:_SHOWN])
    if len(refused) > _SHOWN:
        yield f"  ... and {len(refused) - _SHOWN:,} more"


def _tokenizer(key: str, options: Mapping[str, Any], root: Path) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = _loaded(AutoTokenizer, key, options, root)
    if options.get("pair"):
        chat.check_pair(tokenizer, key)
        return tokenizer
    named = options.get("chat_template")
    template = (root / named).read_text(encoding="utf-8") if named else None
    chat.settle_template(tokenizer, f"{key}: the tokenizer of {options['path']!r}", key, template)
    return tokenizer


def _most(key: str, options: Mapping[str, Any], root: Path) -> int | None:
    """The most tokens that a model reads by its configuration, of which an adapter of ours has none of its own."""
    there = (root / Path(options["path"]).expanduser() / "config.json").is_file()
    return most_tokens(_loaded(AutoConfig, key, options, root)) if there else None


def _loaded(factory: Any, key: str, options: Mapping[str, Any], root: Path) -> Any:
    folder, trusted = root / Path(options["path"]).expanduser(), options.get("trust_remote_code", False)
    try:
        return factory.from_pretrained(folder, local_files_only=True, trust_remote_code=trusted)
    except Exception as problem:  # the loaders raise whatever the first missing or damaged file leads to
        what = "tokenizer" if factory is AutoTokenizer else "configuration"
        raise StudyError(
            f"{key}.path: the {what} of {options['path']!r} does not load: {first_line(problem)}"
        ) from problem
