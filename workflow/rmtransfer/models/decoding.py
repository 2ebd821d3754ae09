"""The one loop in which models of this machine write: prompts in batches, each answer cut at its own limit."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor

from rmtransfer.models.batching import left_padded, length_batches, right_padded

# Decoding holds one new position per row at a time, so a batch of it takes less memory than one forward pass.
DECODING_FACTOR = 4


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
        generated = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
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
