"""What the chat templates of a study's models make of the rows of the source language, before anything is spent on them."""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from rmtransfer.kit.errors import StudyError, first_line
from rmtransfer.kit.progress import report
from rmtransfer.models.chat import probe_template, row_reader, settle_template
from rmtransfer.models.reading import check_max_length
from rmtransfer.texts.corpus import load_rows

_SHOWN = 5
_BASE = "base_models."


def check_templates(
    models: Mapping[str, Mapping[str, Any]],
    rows: Mapping[str, Path],
    stop_at: Collection[str],
    max_length: int,
    root: Path,
    output: Path,
) -> None:
    """Try every model's chat template, on each shape of conversation and on every row of the source language.

    Beside it, whether the bases read as much as the study trains on.

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
    for key, options in models.items():
        if key.startswith(_BASE):
            check_max_length(max_length, _loaded(AutoConfig, key, options, root), key.removeprefix(_BASE))
    templates = {key: probe_template(tokenizer, key) for key, tokenizer in tokenizers.items()}
    read = row_reader({key: tokenizer for key, tokenizer in tokenizers.items() if key.startswith(_BASE)})
    loaded = {part: load_rows(path) for part, path in rows.items()}
    refused: dict[str, dict[str, str]] = {}
    problems: list[str] = []
    for part, these in loaded.items():
        refused[part] = {row["id"]: why for row in these if (why := read(row).refused)}
        if refused[part]:
            said = list(_listed(part, refused[part], len(these)))
            report("\n".join(said))
            problems += said if part in stop_at or len(refused[part]) == len(these) else []
    for key, options in models.items():
        if key.startswith(_BASE):
            continue
        if options["system"] and templates[key]["system"] != "rendered":
            problems.append(
                f"{key}.system: the chat template does not render a system message: {templates[key]['system']}"
            )
        theirs = row_reader({key: tokenizers[key]})
        for part in options["parts"]:
            left = [row for row in loaded[part] if row["id"] not in refused[part]]
            problems += _listed(part, {row["id"]: why for row in left if (why := theirs(row).refused)}, len(left))
    output.parent.mkdir(parents=True, exist_ok=True)
    found = {"templates": templates, "refused": refused}
    output.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if problems:
        raise StudyError(
            "\n".join(problems)
            + "\nName another template in chat_template of that model, mend or remove the rows, or leave out the model; rows that "
            "a base refuses can also be dropped: invalid_rows: drop, beside their path."
        )


def _listed(part: str, refused: Mapping[str, str], rows: int) -> Iterator[str]:
    """Lines that say which rows of a part are refused, and why."""
    if refused:
        yield f"{part}: {len(refused):,} of {rows:,} rows are refused by a chat template"
        yield from (f"  row {identity!r}: {why}" for identity, why in list(refused.items())[:_SHOWN])
    if len(refused) > _SHOWN:
        yield f"  ... and {len(refused) - _SHOWN:,} more"


def _tokenizer(key: str, options: Mapping[str, Any], root: Path) -> PreTrainedTokenizerBase:
    tokenizer = _loaded(AutoTokenizer, key, options, root)
    named = options.get("chat_template")
    template = (root / named).read_text(encoding="utf-8") if named else None
    settle_template(tokenizer, f"{key}: the tokenizer of {options['path']!r}", key, template)
    return tokenizer


def _loaded(factory: Any, key: str, options: Mapping[str, Any], root: Path) -> Any:
    folder, trusted = root / Path(options["path"]).expanduser(), options.get("trust_remote_code", False)
    try:
        return factory.from_pretrained(folder, local_files_only=True, trust_remote_code=trusted)
    except Exception as problem:  # the loaders raise whatever the first missing or damaged file leads to
        what = "tokenizer" if factory is AutoTokenizer else "configuration"
        raise StudyError(
            f"{key}.path: the {what} of {options['path']!r} does not load: {first_line(problem)}"
        ) from problem
