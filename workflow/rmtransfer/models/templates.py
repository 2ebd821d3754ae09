"""What the base models' chat templates make of the rows of the source language, before anything is spent on them."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rmtransfer.kit.errors import StudyError, first_line
from rmtransfer.kit.progress import report
from rmtransfer.models.chat import probe_template, row_reader, settle_template
from rmtransfer.texts.corpus import load_rows

_SHOWN = 5


def check_templates(
    bases: Mapping[str, Mapping[str, str]],
    rows: Mapping[str, Path],
    stop_at: Collection[str],
    root: Path,
    output: Path,
) -> None:
    """Try every base's chat template, on each shape of conversation and on every row of the source language.

    Args:
        bases: by name ``path``, a folder with its tokenizer, and ``chat_template``, the Jinja file that replaces its own.
        rows: part to Parquet file.
        stop_at: parts of which no row may be refused (``invalid_rows: stop``); of others it is dropped in selection.
        root: folder that relative paths start from.
        output: JSON file to write: under ``templates``, by base, what :func:`rmtransfer.models.chat.probe_template` says, and
            under ``refused``, by part and id, why a row is not rendered.

    Raises:
        StudyError: a template is of no use, or refuses a row of one of ``stop_at``, or every row of a part.
    """
    tokenizers, templates = {}, {}
    for base, options in bases.items():
        key = f"base_models.{base}"
        tokenizers[key] = _tokenizer(key, options, root)
        templates[base] = probe_template(tokenizers[key], key)
    read = row_reader(tokenizers)
    refused: dict[str, dict[str, str]] = {}
    problems = []
    for part, path in rows.items():
        readings = {row["id"]: read(row).refused for row in load_rows(path)}
        refused[part] = {identity: why for identity, why in readings.items() if why}
        if refused[part]:
            what = f"{part}: {len(refused[part]):,} of {len(readings):,} rows are rendered by no chat template of every base"
            shown = [f"  row {identity!r}: {why}" for identity, why in list(refused[part].items())[:_SHOWN]]
            more = [f"  ... and {len(refused[part]) - _SHOWN:,} more"] if len(refused[part]) > _SHOWN else []
            report("\n".join([what, *shown, *more]))
            if part in stop_at or len(refused[part]) == len(readings):
                problems += [what, *shown, *more]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(
        json.dumps({"templates": templates, "refused": refused}, indent=1, ensure_ascii=False) + "\n", "utf-8"
    )
    if problems:
        raise StudyError(
            "\n".join(problems)
            + "\nName another template in base_models.<name>.chat_template, mend the rows, or set invalid_rows: drop of these "
            "rows to go on without them."
        )


def _tokenizer(key: str, options: Mapping[str, str], root: Path) -> PreTrainedTokenizerBase:
    folder = root / Path(options["path"]).expanduser()
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as problem:  # the loaders raise whatever the first missing or damaged file leads to
        raise StudyError(
            f"{key}.path: the tokenizer of {options['path']!r} does not load: {first_line(problem)}"
        ) from problem
    named = options.get("chat_template")
    template = (root / named).read_text(encoding="utf-8") if named else None
    settle_template(tokenizer, f"{key}: the tokenizer of {options['path']!r} ", key, template)
    return tokenizer
