"""Log-likelihoods of answers given their prompts, under a causal language model."""

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from rmtransfer.kit.progress import Progress
from rmtransfer.models.device import tokens_at_once
from rmtransfer.models.loading import Encoder, ModelSpec, TokenIds
from rmtransfer.models.packing import batches
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
        return self.spec.load_for_packs(AutoModelForCausalLM)

    @torch.inference_mode()
    def of(self, answers: Sequence[EncodedAnswer], what: str) -> dict[EncodedAnswer, float]:
        """Sum of log p(token | what stands before it) over the tokens after the prompt, in fp32.

        Args:
            what: is going on, for the progress report.
        """
        texts = [ids for _, ids in answers]
        one_token = self.model.config.get_text_config().vocab_size * self.spec.dtype.itemsize
        budget = min(tokens_at_once(self.spec.dtype, self.tokens_per_batch), _LOGITS // one_token)
        keeps = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        progress = Progress(what, sum(map(len, texts)), "tokens")
        sums: dict[EncodedAnswer, float] = {}
        for batch in batches(self.model, texts, budget):
            length = batch.input_ids.shape[1]
            starts = [max(answers[i][0], 1) for i in batch.members]  # nothing stands before the first token
            # What predicts each token of the answers. The vocabulary is the widest layer: spare it the rest.
            before = [place[start - 1 : -1] for place, start in zip(batch.places, starts, strict=True)]
            kept = torch.cat(before).remainder(length).unique() if keeps else torch.arange(length)
            inputs = batch.inputs(self.spec.device)
            logits = self.model(**inputs, **({"logits_to_keep": kept.to(self.spec.device)} if keeps else {})).logits
            for member, start, these in zip(batch.members, starts, before, strict=True):
                rows, columns = these // length, torch.searchsorted(kept, these % length)
                predicted = logits[rows, columns].float().log_softmax(-1)
                tokens = torch.tensor(texts[member][start:], device=predicted.device)
                sums[answers[member]] = predicted.gather(-1, tokens[:, None]).sum().item()
            progress.advance(sum(len(texts[i]) for i in batch.members))
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
