"""The one loop in which models of this machine write: prompts in batches, each answer cut at its own limit."""

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessor

from rmtransfer.models.attention import other_layers
from rmtransfer.models.batching import left_padded, length_batches, right_padded
from rmtransfer.models.loading import is_stock

# Decoding holds one new position per row at a time, so a batch of it takes less memory than one forward pass.
DECODING_FACTOR = 8


def decoding_batches(
    prompts: Sequence[Sequence[int]], limits: Sequence[int], tokens_per_batch: int
) -> Iterator[list[int]]:
    """Indices of prompts that are answered together, the longest with their answers first."""
    lengths = [len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True)]
    return length_batches(lengths, tokens_per_batch * DECODING_FACTOR)


@torch.inference_mode()
def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    batches: Iterable[Sequence[int]],
    *,
    pad: int,
    stops: Collection[int],
    processors: Callable[[Sequence[int], int], list[LogitsProcessor]] | None = None,
    **generation: Any,
) -> Iterator[list[tuple[int, list[int]]]]:
    """What a model answers, as (index of the prompt, new token ids) of each batch in turn; greedily, or by beams.

    Args:
        model: a causal language model, or an encoder-decoder one. Of the latter's tokens the one that starts the decoder is
            left out.
        limits: the most new tokens of each answer. A neighbour in the batch may run on for longer; that is cut.
        batches: indices of prompts that are answered together.
        pad: stands where there is no text; the rest of an answer that has ended.
        stops: tokens that end an answer. They stay in it.
        processors: called with a batch and the padded length of its prompts.
        generation: further settings of :class:`transformers.GenerationConfig`.
    """
    encodes = model.config.is_encoder_decoder
    for batch in batches:
        ids, mask = (right_padded if encodes else left_padded)([prompts[i] for i in batch], pad)
        ids, mask = ids.to(model.device), mask.to(model.device)
        generated = model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=None if encodes else _read_once(model, ids, mask),
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=max(limits[i] for i in batch),
                eos_token_id=sorted(stops) or None,
                pad_token_id=pad,
                **generation,
            ),
            logits_processor=processors(batch, ids.shape[1]) if processors else None,
        )
        answers = generated[:, 1 if encodes else ids.shape[1] :].tolist()
        yield [(i, answer[: limits[i]]) for i, answer in zip(batch, answers, strict=True)]


def _read_once(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> DynamicCache | None:
    """Keys and values of left-padded prompts [rows, length] but their last token, where some are equal, each computed once."""
    length = ids.shape[1]
    alike, number = torch.cat([ids, mask], 1).unique(dim=0, return_inverse=True)
    if len(alike) == len(ids) or length < 2 or other_layers(model) or not is_stock(model):
        return None
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:  # MPT goes on from it wrongly
        return None
    cache = DynamicCache(config=model.config)
    seen = alike[:, length : 2 * length - 1]
    model.base_model(
        input_ids=alike[:, : length - 1],
        attention_mask=seen,
        position_ids=(seen.cumsum(-1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
    )
    cache.batch_select_indices(number)
    return cache
