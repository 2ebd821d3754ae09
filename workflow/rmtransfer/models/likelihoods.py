"""Log-likelihoods of answers given their prompts, under a causal language model."""

import copy
import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from rmtransfer.kit import manifest
from rmtransfer.kit.progress import Progress
from rmtransfer.models.device import tokens_at_once
from rmtransfer.models.loading import Encoder, ModelSpec, TokenIds
from rmtransfer.models.packing import Batch, batches
from rmtransfer.models.trunk import Trunk, build_trunk
from rmtransfer.models.vocabulary import frozen_head, log_probabilities
from rmtransfer.texts.items import Item

_LOGITS = {"cuda": 2 << 30, "cpu": 256 << 20}  # bytes of a forward pass
_AT_ONCE = 64  # tokens whose probabilities over the vocabulary are there at a time
EncodedAnswer = tuple[int, TokenIds]  # number of tokens of the prompt, token ids of prompt and answer


class Likelihoods:
    """Log-likelihoods under one causal language model, which is loaded at first use.

    Args:
        trunk: folder, gigabytes and layers of the store of what base models share with what is trained from them, see
            :func:`rmtransfer.models.trunk.build_trunk`; used for the base models of a study and policies aligned in it.
    """

    def __init__(self, spec: ModelSpec, tokens_per_batch: int, trunk: tuple[Path, float, int] | None = None) -> None:
        self.spec, self.tokens_per_batch, self._store = spec, tokens_per_batch, trunk

    @cached_property
    def model(self) -> Any:
        """The model."""
        return self.spec.load_for_packs(AutoModelForCausalLM)

    @cached_property
    def _trunk(self) -> Trunk | None:
        folder = self.spec.folder
        if self._store is None or folder is None or not (folder / manifest.NAME).is_file():
            return None
        store, gigabytes, layers = self._store
        # An aligned policy says what it shares with the policy before; a base is its own.
        shared = manifest.read_manifest(folder).get("trunk", {"base": manifest.digest_folder(folder), "layers": layers})
        return build_trunk(self.model, shared["base"], shared["layers"], store, gigabytes) if shared else None

    @cached_property
    def _upper(self) -> Any:
        """The model, or what is above its trunk, with its own head and whatever it does to logits."""
        return above_trunk(self.model, self._trunk)

    @torch.inference_mode()
    def of(self, answers: Sequence[EncodedAnswer], what: str) -> dict[EncodedAnswer, float]:
        """Sum of log p(token | what stands before it) over the tokens after the prompt, in fp32.

        Args:
            what: is going on, for the progress report.
        """
        texts = [ids for _, ids in answers]
        most = most_tokens(self.model, self.spec.device, self.spec.dtype)
        budget = min(tokens_at_once(self.spec.dtype, self.tokens_per_batch), most)
        keeps = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        progress = Progress(what, sum(map(len, texts)), "tokens")
        sums: dict[EncodedAnswer, float] = {}
        for batch in batches(self.model, texts, budget):
            length = batch.input_ids.shape[1]
            starts = [max(answers[i][0], 1) for i in batch.members]  # nothing stands before the first token
            # What predicts each token of the answers. The vocabulary is the widest layer: spare it the rest.
            before = [place[start - 1 : -1] for place, start in zip(batch.places, starts, strict=True)]
            kept = torch.cat(before).remainder(length).unique() if keeps else torch.arange(length)
            inputs = batch.inputs(self._upper, self._trunk.embeds(batch) if self._trunk else None)
            keep = {"logits_to_keep": kept.to(self.spec.device)} if keeps else {}
            logits = self._upper(**inputs, **keep).logits
            for member, start, these in zip(batch.members, starts, before, strict=True):
                rows, columns = these // length, torch.searchsorted(kept, these % length)
                tokens = torch.tensor(texts[member][start:], device=logits.device)
                sums[answers[member]] = sum(
                    logits[row, column].float().log_softmax(-1).gather(-1, token[:, None]).sum().item()
                    for row, column, token in zip(*(t.split(_AT_ONCE) for t in (rows, columns, tokens)), strict=True)
                )
            del logits  # before the next ones are there
            progress.advance(sum(len(texts[i]) for i in batch.members))
        return sums


def above_trunk(model: Any, trunk: Trunk | None) -> Any:
    """A causal language model, or what is above its trunk, with its own head and whatever it does to logits."""
    if trunk is None:
        return model
    upper = copy.copy(model)
    upper._modules = {**upper._modules, upper.base_model_prefix: trunk.upper}
    return upper


def answer_log_likelihoods(
    model: Any, batch: Batch, starts: Sequence[int], embeds: torch.Tensor | None = None
) -> torch.Tensor:
    """Sum of log p(token | what stands before it) over each text's tokens from its start on, [texts], with gradients.

    In fp32, in the order of ``batch.members``. Only what predicts these tokens meets the vocabulary.

    Args:
        starts: of each text, the number of its prompt's tokens.
        embeds: what the layers below ``model`` make of the tokens, if it is the upper part of one.
    """
    tokens = batch.input_ids.flatten()
    before = torch.cat([place[start - 1 : -1] for place, start in zip(batch.places, starts, strict=True)])
    predicted = torch.cat([tokens[place[start:]] for place, start in zip(batch.places, starts, strict=True)])
    # What answers share is predicted once. A token that predicts the first ones of two answers is kept twice.
    (before, predicted), number = torch.stack([before, predicted]).unique(dim=1, return_inverse=True)
    lengths = [len(place) - start for place, start in zip(batch.places, starts, strict=True)]
    head = frozen_head(model)
    if head is not None:
        found = log_probabilities(batch.hidden(model.base_model, embeds)[before], head, predicted)[number]
        return torch.stack([these.sum() for these in found.split(lengths)])
    keeps = len(batch.input_ids) == 1 and "logits_to_keep" in inspect.signature(model.forward).parameters
    keep = {"logits_to_keep": before.to(model.device)} if keeps else {}
    logits = model(**batch.inputs(model, embeds), **keep).logits.flatten(0, 1)
    if not keeps:
        logits = logits[before.to(logits.device)]
    # One pass over the vocabulary there and one back.
    found = -cross_entropy(logits.float(), predicted.to(logits.device), reduction="none")[number.to(logits.device)]
    return torch.stack([these.sum() for these in found.split(lengths)])


def most_tokens(model: Any, device: torch.device, dtype: torch.dtype) -> int:
    """How many tokens may meet the vocabulary in one forward pass."""
    return max(1, _LOGITS[device.type] // (model.config.get_text_config().vocab_size * dtype.itemsize))


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
