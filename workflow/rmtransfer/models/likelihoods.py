"""Log-likelihoods of answers given their prompts, under a causal language model."""

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from rmtransfer.kit.progress import Progress
from rmtransfer.models.batching import length_batches, right_padded
from rmtransfer.models.loading import Encoder, ModelSpec, TokenIds
from rmtransfer.texts.items import Item

_LOGITS = 2 << 30  # bytes of a forward pass
EncodedAnswer = tuple[int, TokenIds]  # number of tokens of the prompt, token ids of prompt and answer


class Likelihoods:
    """Log-likelihoods under one causal language model, which is loaded at first use."""

    def __init__(self, spec: ModelSpec, tokens_per_batch: int) -> None:
        self.spec, self.tokens_per_batch = spec, tokens_per_batch

    @cached_property
    def model(self) -> Any:
        """The model."""
        return self.spec.load(AutoModelForCausalLM)

    @torch.inference_mode()
    def of(self, answers: Sequence[EncodedAnswer], what: str) -> dict[EncodedAnswer, float]:
        """Sum of log p(token | what stands before it) over the tokens after the prompt, in fp32.

        Args:
            what: is going on, for the progress report.
        """
        lengths = [len(ids) for _, ids in answers]
        one_token = self.model.config.get_text_config().vocab_size * self.spec.dtype.itemsize
        budget = min(self.tokens_per_batch, _LOGITS // one_token)
        keeps = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        progress = Progress(what, sum(lengths), "tokens")
        sums: dict[EncodedAnswer, float] = {}
        for batch in length_batches(lengths, budget):
            longest = lengths[batch[0]]
            # Padding on the right stands after every real token, which a causal model therefore never sees.
            ids, mask = right_padded([answers[i][1] for i in batch], 0)
            ids, mask = ids.to(self.spec.device), mask.to(self.spec.device)
            starts = [max(answers[i][0], 1) for i in batch]  # nothing stands before the first token
            # The vocabulary is the widest layer: spare it the prompts.
            kept = {"logits_to_keep": longest - min(starts) + 1} if keeps else {}
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False, **kept).logits
            skipped = longest - logits.shape[1]
            for row, (index, start) in enumerate(zip(batch, starts, strict=True)):
                end = lengths[index]
                predicted = logits[row, start - 1 - skipped : end - 1 - skipped].float().log_softmax(-1)
                sums[answers[index]] = predicted.gather(-1, ids[row, start:end, None]).sum().item()
            progress.advance(sum(lengths[i] for i in batch))
        return sums


def encoded_answers(encoder: Encoder, language: str, items: Sequence[Item]) -> list[list[EncodedAnswer]]:
    """The answers of each item, each with the length of its prompt."""
    return [
        [
            (encoder.prompt_length(item.prompt, ids, answer.origin(language)), ids)
            for answer, ids in zip(item.answers, encoded, strict=True)
        ]
        for item, encoded in zip(items, encoder.items(language, items), strict=True)
    ]


def rewards_of(
    answers: Sequence[Sequence[EncodedAnswer]], likelihoods: Mapping[EncodedAnswer, float], normalized: bool
) -> list[list[float]]:
    """Rewards by item; divided by the number of the answer's tokens if ``normalized``."""
    return [[likelihoods[a] / (len(a[1]) - a[0] if normalized else 1) for a in these] for these in answers]
