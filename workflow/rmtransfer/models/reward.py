"""Reward models: build one on a base, pool, score, save, reload.

The only place that decides which token is pooled: the last one of a text, whatever its id.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging as hf_logging

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import read_manifest
from rmtransfer.models.attention import prefer_packs
from rmtransfer.models.device import inference_dtype, pack_for_cpu, tokens_at_once
from rmtransfer.models.families import load_classifier
from rmtransfer.models.packing import Batch, batches
from rmtransfer.models.parallel import in_workers
from rmtransfer.models.trunk import Trunk

ADAPTER_CONFIG = "adapter_config.json"  # of a folder that holds an adapter alone

hf_logging.disable_progress_bar()


def build_reward_model(base: Path, seed: int) -> PreTrainedModel:
    """A sequence classifier on the base's weights in fp32, with a fresh linear score head without bias.

    Head weights are drawn from N(0, 1 / sqrt(hidden + 1)), the second parameter being the standard deviation (authors'
    configuration of arXiv 2410.18027; first used by Stiennon et al., arXiv 2009.01325).
    """
    read_manifest(base)
    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()  # says that score.weight is newly initialised: that is the point
    try:
        model = load_classifier(base, num_labels=1, dtype=torch.float32)
    finally:
        hf_logging.set_verbosity(verbosity)
    head = score_head(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        drawn = torch.randn(head.weight.shape, generator=generator)
        head.weight.copy_(drawn / (head.in_features + 1) ** 0.5)
    return model


def load_reward_model(folder: Path, device: torch.device) -> PreTrainedModel:
    """Load a finished reward model for inference."""
    read_manifest(folder)
    return load_weights(folder, device)


def load_weights(folder: Path, device: torch.device) -> PreTrainedModel:
    """The same of one that is not finished yet."""
    if (folder / ADAPTER_CONFIG).is_file():
        from rmtransfer.models import adapters  # PEFT, which only these need

        model: Any = adapters.load_adapter(folder, build_reward_model(adapters.base_of(folder), 0))
        model = model.to(inference_dtype(device))
    else:
        model = load_classifier(folder, dtype=inference_dtype(device))
    score_head(model)
    pack_for_cpu(model.base_model, device)
    return prefer_packs(model.to(device).eval())


def load_backbone(folder: Path, device: torch.device) -> PreTrainedModel:
    """Load a base model without any head, for its hidden states."""
    read_manifest(folder)
    model = AutoModel.from_pretrained(folder, dtype=inference_dtype(device))
    pack_for_cpu(model, device)
    return prefer_packs(model.to(device).eval())


def score_head(model: PreTrainedModel) -> torch.nn.Linear:
    """The linear layer that turns a hidden state into a reward.

    Raises:
        StudyError: the model has none, or one with more than one output.
    """
    head = getattr(model, "score", None)
    head = getattr(head, "modules_to_save", {"default": head})[
        "default"
    ]  # PEFT keeps the trained copy beside the original
    if not isinstance(head, torch.nn.Linear) or head.out_features != 1:
        raise StudyError(f"{model.name_or_path}: no linear score head with one output; it is not a reward model")
    return head


def last_token_states(model: PreTrainedModel, batch: Batch, trunk: Trunk | None = None) -> torch.Tensor:
    """Last-layer hidden state [texts, hidden] of each text's last token, in the order of ``batch.members``.

    Args:
        model: any decoder, with or without a head.
        trunk: what computes and keeps the states after the model's first blocks, if those are frozen.
    """
    hidden = batch.hidden(model.base_model) if trunk is None else batch.hidden(trunk.upper, trunk.embeds(batch))
    return hidden[batch.ends.to(hidden.device)]


def rewards_of(model: PreTrainedModel, states: torch.Tensor) -> torch.Tensor:
    """Rewards [batch] of hidden states [batch, hidden], in fp32 whatever the dtype of the model.

    A bf16 reward has 8 significant bits, so that close answers would tie.
    """
    with torch.autocast(states.device.type, enabled=False):
        return torch.nn.functional.linear(states.float(), score_head(model).weight.float()).squeeze(-1)


@torch.inference_mode()
def embed(
    model: PreTrainedModel,
    texts: Sequence[Sequence[int]],
    tokens_per_batch: int,
    on_progress: Callable[[int], None] = lambda tokens: None,
    trunk: Trunk | None = None,
    workers: Callable[[], int] = lambda: 1,
) -> torch.Tensor:
    """Last-token states [n, hidden] of texts as token ids, in fp32 on the CPU, in the order given.

    Args:
        tokens_per_batch: of one forward pass, see :func:`rmtransfer.models.device.tokens_at_once`.
        on_progress: called after each batch with the number of tokens of its texts.
        workers: how many batches may be computed at a time on a CPU.
    """

    def compute(batch: Batch) -> tuple[Batch, torch.Tensor]:
        return batch, last_token_states(model, batch, trunk).float().cpu()

    at_a_time = workers if model.device.type == "cpu" else lambda: 1
    states = torch.empty(len(texts), 0)
    together = batches(model, texts, tokens_at_once(model.dtype, tokens_per_batch))
    for batch, these in in_workers(compute, together, at_a_time):
        if states.shape[1] == 0:
            states = torch.empty(len(texts), these.shape[1])  # which some families' configurations do not say
        states[batch.members] = these
        on_progress(sum(len(texts[i]) for i in batch.members))
    return states


@torch.inference_mode()
def score(
    model: PreTrainedModel,
    texts: Sequence[Sequence[int]],
    tokens_per_batch: int,
    on_progress: Callable[[int], None] = lambda tokens: None,
    trunk: Trunk | None = None,
    workers: Callable[[], int] = lambda: 1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rewards [n] and the last-token states [n, hidden] they were read from, in one pass."""
    states = embed(model, texts, tokens_per_batch, on_progress, trunk, workers)
    return rewards_of(model, states.to(model.device)).cpu(), states
