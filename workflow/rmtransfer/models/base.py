"""Bring a base model, wherever it comes from, into one folder that every later stage loads from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from rmtransfer.kit import stages
from rmtransfer.kit.manifest import write_manifest
from rmtransfer.models import shards
from rmtransfer.models.chat import probe_template, save_tokenizer, settle_template
from rmtransfer.models.clock import day_of
from rmtransfer.study import catalogue
from rmtransfer.study.names import DATE

# Pad tokens that vocabularies reserve without naming them as pad_token (Llama 3, Qwen 2.5, SentencePiece models).
_PAD_CANDIDATES = ("<pad>", "<|finetune_right_pad_id|>", "<|endoftext|>", "[PAD]", "<unk>")


def prepare_base_model(
    options: Mapping[str, Any],
    name: str,
    root: Path,
    output: Path,
    *,
    chat_template: str | None = None,
    date: str = DATE,
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

    Raises:
        StudyError: the checkpoint is missing, truncated, no causal language model, or without a chat template that renders a
            question with its answer.
    """
    key = f"base_models.{name}"
    output.mkdir(parents=True, exist_ok=True)
    source = catalogue.load(catalogue.BASE_MODELS, catalogue.base_model_source(options))
    model, tokenizer = source.load(source.Options.model_validate(options), key, root, output)
    settle_template(tokenizer, f"{key}: {options['path']}", key, chat_template, date)
    template = {**probe_template(tokenizer, key), "date": day_of(str(tokenizer.chat_template))}
    ensure_pad_token(tokenizer, model)
    model.save_pretrained(output)
    shards.reshard(output)
    save_tokenizer(tokenizer, output)
    facts = {"stage": "base_model", "version": stages.BASE_MODEL.version, "source": dict(options)}
    write_manifest(output, {**facts, "chat_template": template})


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
