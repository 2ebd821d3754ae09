"""Sequence classifiers: one scalar per conversation, or one of several outputs."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from rmtransfer.batching import length_batches, right_padded
from rmtransfer.corpus import Row
from rmtransfer.errors import StudyError
from rmtransfer.progress import Progress
from rmtransfer.reward import last_token_states
from rmtransfer.reward_models.model import Encoder, Scores, identity, load, loading_settings, unique


class Classifier:
    """A model that AutoModelForSequenceClassification loads.

    A stock head (``score``, a linear layer) is read at the last real token by the attention mask. A custom one, behind
    ``trust_remote_code``, is asked by its own forward pass, in batches of equal length, so that nothing depends on how it
    treats padding.
    """

    def __init__(self, spec: Mapping[str, Any], where: str, tokens_per_batch: int, device: torch.device) -> None:
        self.spec, self.where, self.tokens_per_batch, self.device = spec, where, tokens_per_batch, device
        self.path, self.revision, self.output = spec["path"], spec.get("revision"), spec.get("output")
        self.encoder = Encoder(spec, self.path, self.revision, where)
        self._model: Any = None

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.reward_models.model.Scorer`."""
        return {
            **loading_settings(self.spec, self.device),
            "model": identity(self.path, self.revision),
            "output": self.output,
            **self.encoder.settings(),
        }

    @torch.inference_mode()
    def score(self, language: str, pairs: Sequence[Row]) -> Scores:
        """See :class:`rmtransfer.reward_models.model.Scorer`."""
        config = AutoConfig.from_pretrained(
            self.path, revision=self.revision, trust_remote_code=self.spec.get("trust_remote_code", False)
        )
        encoded = self.encoder.pairs(language, pairs, config)
        sequences = unique(sequence for side in encoded.values() for sequence in side)
        model = self._load()
        head: Any = getattr(model, "score", None)
        stock = isinstance(head, torch.nn.Linear)
        lengths = [len(s) for s in sequences]
        progress = Progress(f"scoring {language}", sum(lengths), "tokens")
        rewards: dict[tuple[int, ...], float] = {}
        for batch in length_batches(lengths, self.tokens_per_batch):
            for part in [batch] if stock else _of_equal_length(batch, lengths):
                ids, mask = right_padded([sequences[i] for i in part], self.encoder.tokenizer.pad_token_id or 0)
                ids, mask = ids.to(self.device), mask.to(self.device)
                if stock:
                    states = last_token_states(model, ids, mask).float()
                    bias = None if head.bias is None else head.bias.float()
                    values = self._one_of(torch.nn.functional.linear(states, head.weight.float(), bias))
                else:
                    values = self._output_of(model(input_ids=ids, attention_mask=mask))
                rewards.update(zip([sequences[i] for i in part], values.float().tolist(), strict=True))
                progress.advance(sum(lengths[i] for i in part))
        chosen, rejected = encoded["chosen"], encoded["rejected"]
        return Scores(
            [rewards[s] for s in chosen], [rewards[s] for s in rejected], [*map(len, chosen)], [*map(len, rejected)]
        )

    def _load(self) -> Any:
        if self._model is None:
            self._model = load(
                AutoModelForSequenceClassification, self.path, self.revision, self.spec, self.device, self.where
            )
        return self._model

    def _output_of(self, result: Any) -> torch.Tensor:
        if not isinstance(self.output, str):
            return self._one_of(result.logits)
        values = getattr(result, self.output, None)
        if values is None:
            known = ", ".join(k for k, v in result.items() if isinstance(v, torch.Tensor))
            raise StudyError(f"{self.where}.output: the model returns no {self.output!r} but {known}; name one of them")
        return (
            values.reshape(len(values), -1)[:, 0] if values.ndim < 2 or values.shape[1] == 1 else self._one_of(values)
        )

    def _one_of(self, outputs: torch.Tensor) -> torch.Tensor:
        outputs = outputs.reshape(len(outputs), -1)
        index = self.output if isinstance(self.output, int) else 0
        if outputs.shape[1] > 1 and not isinstance(self.output, int):
            raise StudyError(
                f"{self.where}: the model has {outputs.shape[1]} outputs; say which one is the reward in "
                f"{self.where}.output (a number from 0, or the name of an attribute)"
            )
        if not 0 <= index < outputs.shape[1]:
            raise StudyError(f"{self.where}.output: {index} is none of the model's {outputs.shape[1]} outputs, from 0")
        return outputs[:, index]


def _of_equal_length(batch: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for index in batch:
        groups.setdefault(lengths[index], []).append(index)
    return list(groups.values())
