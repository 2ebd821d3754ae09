"""What a reward model must beat: the answer's length, chance, and its likelihood under a model that was never aligned."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AutoTokenizer

from rmtransfer.corpus import Message, Row
from rmtransfer.hidden_states import SIDES
from rmtransfer.reward_models.implicit import Likelihoods, answers_of, scores_of
from rmtransfer.reward_models.model import Encoder, Scores, identity, loading_settings, unique


class Length:
    """The longer answer is the better one."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.spec = spec
        self._tokenizer: Any = None

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.reward_models.model.Scorer`."""
        name = self.spec.get("tokenizer")
        return {
            "kind": "length",
            "unit": self.spec["unit"],
            "tokenizer": name and identity(name, self.spec.get("revision")),
        }

    def score(self, language: str, pairs: Sequence[Row]) -> Scores:
        """See :class:`rmtransfer.reward_models.model.Scorer`."""
        counts = {side: [self._length(row[side]) for row in pairs] for side in SIDES}
        tokens = counts if self.spec["unit"] == "tokens" else {}
        return Scores(counts["chosen"], counts["rejected"], tokens.get("chosen"), tokens.get("rejected"))

    def _length(self, answer: Sequence[Message]) -> int:
        text = "\n".join(message["content"] for message in answer)
        if self.spec["unit"] == "characters":
            return len(text)
        if self._tokenizer is None:
            self._tokenizer = AutoTokenizer.from_pretrained(self.spec["tokenizer"], revision=self.spec.get("revision"))
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])


class Random:
    """A number between 0 and 1 that depends on the seed, the language, the row and the side, and on nothing else."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.seed = spec.get("seed", 0)

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.reward_models.model.Scorer`."""
        return {"kind": "random", "seed": self.seed}

    def score(self, language: str, pairs: Sequence[Row]) -> Scores:
        """See :class:`rmtransfer.reward_models.model.Scorer`."""
        numbers = {side: [self._number(f"{language}/{row['id']}/{side}") for row in pairs] for side in SIDES}
        return Scores(numbers["chosen"], numbers["rejected"])

    def _number(self, key: str) -> float:
        digest = hashlib.sha256(f"{self.seed}/{key}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64


class Likelihood:
    """log p(answer | prompt) under a base model, per token unless ``length_normalized`` is false."""

    def __init__(self, spec: Mapping[str, Any], where: str, tokens_per_batch: int, device: torch.device) -> None:
        self.spec, self.device = spec, device
        self.encoder = Encoder(spec, spec["path"], spec.get("revision"), where)
        self.model = Likelihoods(spec["path"], spec.get("revision"), spec, where, tokens_per_batch, device)
        self.normalized = spec.get("length_normalized", True)

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.reward_models.model.Scorer`."""
        return {
            **loading_settings(self.spec, self.device),
            "model": identity(self.model.path, self.model.revision),
            "length_normalized": self.normalized,
            **self.encoder.settings(),
        }

    def score(self, language: str, pairs: Sequence[Row]) -> Scores:
        """See :class:`rmtransfer.reward_models.model.Scorer`."""
        answers = answers_of(self.encoder, language, pairs, self.model.model.config)
        distinct = unique(answer for side in SIDES for answer in answers[side])
        return scores_of(answers, self.model.of(distinct, f"scoring {language}"), self.normalized)
