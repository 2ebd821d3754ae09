"""How a model that somebody else made is named and loaded, in the configuration. Imports nothing heavy."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from rmtransfer.models.folders import GGUF, Use, problem_of
from rmtransfer.study.options import Day, Options, Text


class Loading(Options):
    """How a model's weights and texts are read."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """precision of the weights; auto is bfloat16 on a GPU, float32 on a CPU"""
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    """how attention is computed; auto is what transformers chooses"""
    quantization: Literal["none", "8bit", "4bit"] = "none"
    """of the weights, by bitsandbytes; needs a GPU"""
    trust_remote_code: bool = False
    """run the Python code that comes with the model"""
    chat_template: Text | None = None
    """Jinja file; needed where the tokenizer brings none"""
    date: Day | None = None
    """the day that its chat template is told, if it writes one; chat.date if not given"""
    max_length: Annotated[int, Field(ge=8)] | None = None
    """longest text in tokens; what the model's own configuration says if not given"""


def check_model(
    model: str,
    revision: str | None,
    key: str,
    revision_key: str,
    bases: Collection[str],
    root: Path,
    use: Use = "weights",
) -> Iterator[str]:
    """What is wrong with a config entry that names a model: one of the study's bases, a folder, or a pinned hub id.

    Args:
        key: config key of ``model``, for messages; ``revision_key`` is the one beside it that pins a hub id.
        use: what a folder is for.
    """
    path = root / Path(model).expanduser()
    if model in bases:
        return
    if path.is_dir():
        if problem := problem_of(path, use):
            yield f"{key}: {model!r} {problem}"
    elif path.is_file():
        with path.open("rb") as file:
            gguf = file.read(len(GGUF)) == GGUF
        what = "a GGUF file, which is llama.cpp's; name the model that it was made from"
        yield f"{key}: {model!r} is {what if gguf else 'a file; name the folder of a model in the format of transformers'}"
    elif model.startswith(("./", "../", "/", "~")):
        yield f"{key}: {model!r} is not a folder; correct the path"
    elif revision is None:
        yield f"{key}: {model!r} has no {revision_key}; add the model's commit, a branch can move"


def check_template(template: str | None, key: str, root: Path) -> Iterator[str]:
    """What is wrong with a ``chat_template`` of the config entry ``key``, if one is named."""
    if template is not None and not (root / template).is_file():
        yield f"{key}.chat_template: {template!r} does not exist; correct the path"
