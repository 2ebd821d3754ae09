"""Reward models: build one on a base, pool, score, save, reload.

The only place that decides which token is pooled: the last real one by the attention mask, whatever its id.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import SequenceClassifierOutputWithPast
from transformers.utils import logging as hf_logging

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import read_manifest
from rmtransfer.models.batching import length_batches, right_padded
from rmtransfer.models.device import inference_dtype, pack_for_cpu

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
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
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
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=inference_dtype(device))
    score_head(model)
    pack_for_cpu(model.base_model, device)
    return model.to(device).eval()


def load_backbone(folder: Path, device: torch.device) -> PreTrainedModel:
    """Load a base model without any head, for its hidden states."""
    read_manifest(folder)
    model = AutoModel.from_pretrained(folder, dtype=inference_dtype(device))
    pack_for_cpu(model, device)
    return model.to(device).eval()


def score_head(model: PreTrainedModel) -> torch.nn.Linear:
    """The linear layer that turns a hidden state into a reward.

    Raises:
        StudyError: the model has none, or one with more than one output.
    """
    head = getattr(model, "score", None)
    if not isinstance(head, torch.nn.Linear) or head.out_features != 1:
        raise StudyError(f"{model.name_or_path}: no linear score head with one output; it is not a reward model")
    return head


def last_token_states(model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Last-layer hidden state of each sequence's last real token.

    Args:
        model: any decoder, with or without a head.
        input_ids: [batch, length] token ids, padded on either side.
        attention_mask: [batch, length], 1 for real tokens.

    Returns:
        [batch, hidden] in the model's dtype.
    """
    positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
    hidden = model.base_model(
        input_ids=input_ids, attention_mask=attention_mask, position_ids=positions, use_cache=False
    ).last_hidden_state
    steps = torch.arange(input_ids.shape[1], device=input_ids.device)
    last = (steps * attention_mask).argmax(-1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def rewards_of(model: PreTrainedModel, states: torch.Tensor) -> torch.Tensor:
    """Rewards [batch] of hidden states [batch, hidden], in fp32 whatever the dtype of the model.

    A bf16 reward has 8 significant bits, so that close answers would tie.
    """
    with torch.autocast(states.device.type, enabled=False):
        return torch.nn.functional.linear(states.float(), score_head(model).weight.float()).squeeze(-1)


def bucketed_forward(
    model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor, tokens_per_batch: int
) -> SequenceClassifierOutputWithPast:
    """What a sequence classifier returns for right-padded input, computed in length-sorted pieces without the padding.

    Differentiable. ``logits`` is [batch, 1] in the order of the input.
    """
    lengths = attention_mask.sum(-1).tolist()
    order: list[int] = []
    states: list[torch.Tensor] = []
    for batch in length_batches(lengths, tokens_per_batch):
        longest = lengths[batch[0]]
        states.append(last_token_states(model, input_ids[batch, :longest], attention_mask[batch, :longest]))
        order.extend(batch)
    restore = torch.tensor(order, device=input_ids.device).argsort()
    return SequenceClassifierOutputWithPast(logits=rewards_of(model, torch.cat(states)[restore])[:, None])


@torch.inference_mode()
def embed(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sequences: Sequence[Sequence[int]],
    tokens_per_batch: int,
    on_progress: Callable[[int], None] = lambda tokens: None,
) -> torch.Tensor:
    """Last-token states [n, hidden] of token-id sequences, in fp32 on the CPU, in the order given.

    Args:
        on_progress: called after each batch with the number of real tokens in it.
    """
    states = torch.empty(len(sequences), model.config.get_text_config().hidden_size)
    lengths = [len(s) for s in sequences]
    for batch in length_batches(lengths, tokens_per_batch):
        input_ids, mask = right_padded([sequences[index] for index in batch], tokenizer.pad_token_id)
        states[batch] = last_token_states(model, input_ids.to(model.device), mask.to(model.device)).float().cpu()
        on_progress(sum(lengths[i] for i in batch))
    return states


@torch.inference_mode()
def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sequences: Sequence[Sequence[int]],
    tokens_per_batch: int,
    on_progress: Callable[[int], None] = lambda tokens: None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rewards [n] and the last-token states [n, hidden] they were read from, in one pass."""
    states = embed(model, tokenizer, sequences, tokens_per_batch, on_progress)
    return rewards_of(model, states.to(model.device)).cpu(), states
