"""What a reward model must beat: the answer's length, chance, and its likelihood under a model that was never aligned."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from rmtransfer.models.loading import Encoder, Scores, Source, unique
from rmtransfer.models.states import SIDES
from rmtransfer.scoring.implicit import Likelihoods, answers_of, scores_of
from rmtransfer.texts.corpus import Message, Row


class Length:
    """The longer answer is the better one.

    Args:
        tokenizer: whose tokens are counted; characters (Unicode code points) without one.
    """

    def __init__(self, tokenizer: Source | None) -> None:
        self.source = tokenizer

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.models.loading.Scorer`."""
        return {"unit": "tokens", "tokenizer": self.source.identity} if self.source else {"unit": "characters"}

    def score(self, language: str, pairs: Sequence[Row]) -> Scores:
        """See :class:`rmtransfer.models.loading.Scorer`."""
        chosen, rejected = ([self._length(row[side]) for row in pairs] for side in SIDES)
        return Scores(chosen, rejected, chosen, rejected) if self.source else Scores(chosen, rejected)

    def _length(self, answer: Sequence[Message]) -> int:
        text = "\n".join(message["content"] for message in answer)
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"]) if self.source else len(text)

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        assert self.source is not None
        return self.source.tokenizer()


class Random:
    """A number in [0, 1) that depends on the seed, the language, the row's id and the side, and on nothing else."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.seed = spec.get("seed", 0)

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.models.loading.Scorer`."""
        return {"seed": self.seed}

    def score(self, language: str, pairs: Sequence[Row]) -> Scores:
        """See :class:`rmtransfer.models.loading.Scorer`."""
        chosen, rejected = ([self._number(f"{language}/{row['id']}/{side}") for row in pairs] for side in SIDES)
        return Scores(chosen, rejected)

    def _number(self, key: str) -> float:
        digest = hashlib.sha256(f"{self.seed}/{key}".encode()).digest()
        return (int.from_bytes(digest[:8], "big") >> 11) / 2**53  # as many bits as a float keeps


class Likelihood:
    """log p(answer | prompt) under a base model, per token of the answer unless ``length_normalized`` is false."""

    def __init__(self, source: Source, tokens_per_batch: int) -> None:
        self.encoder = Encoder(source)
        self.likelihoods = Likelihoods(source, tokens_per_batch)
        self.normalized = source.spec.get("length_normalized", True)

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.models.loading.Scorer`."""
        source = self.likelihoods.source
        return {
            "model": source.identity,
            "length_normalized": self.normalized,
            **source.settings(),
            **self.encoder.settings(),
        }

    def score(self, language: str, pairs: Sequence[Row]) -> Scores:
        """See :class:`rmtransfer.models.loading.Scorer`."""
        answers = answers_of(self.encoder, language, pairs)
        distinct = unique(answer for side in SIDES for answer in answers[side])
        return scores_of(answers, self.likelihoods.of(distinct, f"scoring {language}"), self.normalized)
