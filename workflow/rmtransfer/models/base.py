"""Bring a base model, wherever it comes from, into one folder that every later stage loads from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from rmtransfer.kit import stages
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import write_manifest
from rmtransfer.models import chat, families, shards
from rmtransfer.models.clock import day_of
from rmtransfer.models.reading import check_ids
from rmtransfer.study import catalogue
from rmtransfer.study.names import DATE
from rmtransfer.texts.corpus import Message

# Pad tokens that vocabularies reserve without naming them as pad_token (Llama 3, Qwen 2.5, SentencePiece models).
_PAD_CANDIDATES = ("<pad>", "<|finetune_right_pad_id|>", "<|endoftext|>", "[PAD]", "<unk>")
_PROBE: list[Message] = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]


def prepare_base_model(
    options: Mapping[str, Any],
    name: str,
    root: Path,
    output: Path,
    *,
    chat_template: str | None = None,
    date: str = DATE,
    section: str = "base_models",
) -> None:
    """Write a causal language model, its tokenizer and its chat template to ``output`` as safetensors.

    The weights are in shards that reward models can share, see :mod:`rmtransfer.models.shards`.

    Args:
        options: the config entry.
        name: slug of the model, for messages.
        root: folder that a relative path starts from.
        output: folder to write; its manifest comes last.
        chat_template: Jinja text that replaces the tokenizer's own.
        date: the day that a chat template is told, if it writes one.
        section: of the config, ``base_models`` or ``policies``.

    Raises:
        StudyError: the checkpoint is missing, truncated, or without a chat template that renders a question with its answer; or
            no reward model can be made of it.
    """
    key = f"{section}.{name}"
    output.mkdir(parents=True, exist_ok=True)
    source = catalogue.load(catalogue.BASE_MODELS, catalogue.base_model_source(options))
    kind = source.Policy if section == "policies" else source.Options
    model, tokenizer = source.load(kind.model_validate(options), key, root, output)
    family = model.config.model_type
    try:
        model = families.text_only(model)
        families.check_base(model)
    except families.NotServedError as problem:
        raise StudyError(
            f"{key}.path: no reward model can be made of {options['path']!r} (model_type {family}): {problem}; name another "
            "base, such as Qwen/Qwen2.5-3B-Instruct"
        ) from problem
    chat.settle_template(tokenizer, f"{key}: {options['path']}", key, chat_template, date)
    template = {**chat.probe_template(tokenizer, key), "date": day_of(str(tokenizer.chat_template))}
    remedy = f"name another Jinja file in {key}.chat_template, or the tokenizer that the model was trained with"
    check_ids([(chat.encode(tokenizer, _PROBE), "what the chat template renders")], model.config, key, remedy)
    ensure_pad_token(tokenizer, model)
    model.save_pretrained(output)
    if families.needs_code(model.config):
        families.bring_code(model.config, output)
    shards.reshard(output)
    chat.save_tokenizer(tokenizer, output)
    facts = {"stage": "base_model", "version": stages.BASE_MODEL.version, "source": dict(options)}
    write_manifest(output, {**facts, "chat_template": template})


def ensure_pad_token(tokenizer: PreTrainedTokenizerBase, model: Any) -> None:
    """Give tokenizer and model a pad token distinct from EOS.

    Stock sequence classifiers find the last real token by comparing ids with the pad id, so a pad token that is also
    EOS would make them pool the token before the end. It is in the embedding table, which grows where there is no other.
    """
    pad, eos, table = tokenizer.pad_token_id, tokenizer.eos_token_id, model.get_input_embeddings().num_embeddings
    if pad is None or pad == eos or pad >= table:
        vocabulary = tokenizer.get_vocab()
        free = [t for t in _PAD_CANDIDATES if t in vocabulary and eos != vocabulary[t] < table]
        if free:
            tokenizer.pad_token = free[0]
        else:
            if pad is None or pad == eos:
                tokenizer.add_special_tokens({"pad_token": "<pad>"})
            if tokenizer.pad_token_id >= table:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(0)  # the new rows are drawn, and the base's digest must not change with them
                    model.resize_token_embeddings(tokenizer.pad_token_id + 1)
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
