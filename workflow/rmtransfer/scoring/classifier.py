"""Sequence classifiers: one scalar per conversation, or one of several outputs."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification
from transformers.modeling_layers import GenericForSequenceClassification

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.progress import Progress
from rmtransfer.models.batching import length_batches, right_padded
from rmtransfer.models.loading import Encoder, Scores, Source, TokenIds, is_stock, unique
from rmtransfer.models.reward import last_token_states
from rmtransfer.texts.corpus import Row


class Classifier:
    """A model that AutoModelForSequenceClassification loads.

    The linear head of transformers' own decoders is applied here, in fp32, to the state that their forward pass takes for
    a single text: that of the last token which is not the config's pad token. Any other head is asked by the model's own
    forward pass, in batches of equal length, so that nothing depends on how it treats padding.
    """

    def __init__(self, source: Source, tokens_per_batch: int) -> None:
        self.source, self.where, self.tokens_per_batch = source, source.where, tokens_per_batch
        self.output: int | str | None = source.spec.get("output")
        self.encoder = Encoder(source)

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.models.loading.Scorer`."""
        return {
            "model": self.source.identity,
            "output": self.output,
            **self.source.settings(),
            **self.encoder.settings(),
        }

    @cached_property
    def model(self) -> Any:
        """The model, loaded at first use."""
        return self.source.load(AutoModelForSequenceClassification)

    @torch.inference_mode()
    def score(self, language: str, pairs: Sequence[Row]) -> Scores:
        """See :class:`rmtransfer.models.loading.Scorer`."""
        encoded = self.encoder.pairs(language, pairs)
        sequences = unique(sequence for side in encoded.values() for sequence in side)
        lengths = [len(s) for s in sequences]
        progress = Progress(f"scoring {language}", sum(lengths), "tokens")
        linear = self._has_linear_head()
        rewards: dict[TokenIds, float] = {}
        for batch in length_batches(lengths, self.tokens_per_batch):
            for part in [batch] if linear else _of_equal_length(batch, lengths):
                texts = [sequences[i] for i in part]
                values = self._one_of(self._pooled(texts)) if linear else self._asked(texts)
                rewards.update(zip(texts, values.float().tolist(), strict=True))
                progress.advance(sum(lengths[i] for i in part))
        chosen, rejected = encoded["chosen"], encoded["rejected"]
        return Scores(
            [rewards[s] for s in chosen], [rewards[s] for s in rejected], [*map(len, chosen)], [*map(len, rejected)]
        )

    def _has_linear_head(self) -> bool:
        if isinstance(self.output, str) or not is_stock(self.model):
            return False
        if not isinstance(self.model, GenericForSequenceClassification):
            return False
        return type(self.model.score) is torch.nn.Linear and self.model.score.bias is None  # else it is quantised

    def _pooled(self, texts: Sequence[TokenIds]) -> torch.Tensor:
        """What the linear head makes of texts, [batch, outputs] in fp32."""
        pad = self.model.config.get_text_config().pad_token_id
        ids, mask = right_padded([_up_to_last_other(text, pad) for text in texts], self.encoder.pad)
        states = last_token_states(self.model, ids.to(self.source.device), mask.to(self.source.device))
        return torch.nn.functional.linear(states.float(), self.model.score.weight.float())

    def _asked(self, texts: Sequence[TokenIds]) -> torch.Tensor:
        """What the model's own forward pass makes of texts of equal length, [batch]."""
        ids = torch.tensor(texts, device=self.source.device)
        result = self.model(input_ids=ids, attention_mask=torch.ones_like(ids))
        name = self.output if isinstance(self.output, str) else "logits"
        values = getattr(result, name, None)
        if not isinstance(values, torch.Tensor):
            known = (
                ", ".join(k for k, v in getattr(result, "__dict__", {}).items() if isinstance(v, torch.Tensor))
                or "no tensor by name"
            )
            raise StudyError(f"{self.where}.output: the model returns no {name!r} but {known}; name one of them")
        return self._one_of(values)

    def _one_of(self, outputs: torch.Tensor) -> torch.Tensor:
        outputs = outputs.reshape(len(outputs), -1)
        index, count = self.output, outputs.shape[1]
        if not isinstance(index, int):
            if count > 1:
                raise StudyError(
                    f"{self.where}.output: the model has {count} outputs; say which one is the reward, by its number from "
                    "0 or by the name of what the model returns"
                )
            index = 0
        if not 0 <= index < count:
            raise StudyError(f"{self.where}.output: {index} is none of the model's {count} outputs, from 0")
        return outputs[:, index]


def _up_to_last_other(text: TokenIds, pad: int | None) -> TokenIds:
    """``text`` without the pad tokens at its end: a causal model's states before them do not depend on them."""
    end = len(text)
    while end > 1 and text[end - 1] == pad:
        end -= 1
    return text[:end]


def _of_equal_length(batch: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for index in batch:
        groups.setdefault(lengths[index], []).append(index)
    return list(groups.values())
