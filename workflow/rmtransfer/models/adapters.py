"""Reward models trained by low-rank updates of their linear layers (LoRA, arXiv 2106.09685) through PEFT; the score head whole."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rmtransfer.kit.errors import StudyError
from rmtransfer.models.families import blocks_of
from rmtransfer.models.reward import ADAPTER_CONFIG

_BASE = "base_model_name_or_path"


def add_adapter(
    model: PreTrainedModel, options: Mapping[str, Any], frozen_layers: int, seed: int, task: str = TaskType.SEQ_CLS
) -> PeftModel:
    """A model with a fresh adapter in the blocks above the frozen ones; only that is trained, and the score head of a classifier.

    Args:
        options: the config's ``training.adapter``.
        task: PEFT's name of what the model does.
        seed: of the adapter's first weights. Until it is trained it changes nothing.

    Raises:
        StudyError: ``target_modules`` names a layer that the model does not have, or no block is left.
    """
    where, blocks = blocks_of(model.base_model)
    if frozen_layers == len(blocks):
        raise StudyError(
            f"training.adapter: training.frozen_layers: {frozen_layers} leaves no block for it; lower that"
        )
    there = sorted(
        {name.split(".")[-1] for name, module in blocks.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)}
    )
    wanted = there if options["target_modules"] == "all-linear" else options["target_modules"]
    unknown = [name for name in wanted if name not in there]
    if unknown:
        raise StudyError(
            f"training.adapter.target_modules: the base model has no layer {', '.join(unknown)}; name some of "
            f"{', '.join(there)}, or all-linear"
        )
    config = LoraConfig(
        task_type=task,  # of a classifier PEFT then trains and saves the head, which is named score
        r=options["rank"],
        lora_alpha=options["alpha"],
        lora_dropout=options["dropout"],
        target_modules=wanted,
        layers_to_transform=list(range(frozen_layers, len(blocks))),
        layers_pattern=where.split(".")[-1],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def merged(model: PeftModel) -> PreTrainedModel:
    """The classifier with the adapter's updates in its weights."""
    whole = model.merge_and_unload()
    whole.__dict__.pop("peft_config", None)
    return whole


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write the adapter and the score head; the base model is named by its path from ``folder``."""
    config = model.peft_config["default"]
    config.base_model_name_or_path = os.path.relpath(str(config.base_model_name_or_path), folder)
    config.inference_mode = True
    model.save_pretrained(str(folder), save_embedding_layers=False)


def base_of(folder: Path) -> Path:
    """The base model of a folder that holds an adapter alone.

    Raises:
        StudyError: it is not where it was when the adapter was saved, as seen from there.
    """
    path = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))[_BASE]
    base = Path(os.path.normpath(folder / path))
    if not (base / "config.json").is_file():
        raise StudyError(
            f"{folder}: an adapter of the base model in {base}, which is not there; put that back, or train with "
            "training.adapter.merge: true"
        )
    return base


def load_adapter(folder: Path, classifier: PreTrainedModel) -> PreTrainedModel:
    """A classifier on the base model, in fp32, with the adapter's updates and score head."""
    return merged(PeftModel.from_pretrained(classifier, str(folder)))
