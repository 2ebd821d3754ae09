"""What a reward model must beat: the length of the answer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rmtransfer.models.options import Loading
from rmtransfer.scoring.reward_model import Resources, RewardModel, Rewards
from rmtransfer.study.options import Commit, Options, Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rmtransfer.models.loading import ModelSpec
    from rmtransfer.texts.corpus import Message
    from rmtransfer.texts.items import Item


class LengthOptions(Options):
    """The longer answer is the better one."""

    kind: Literal["length"]
    unit: Literal["characters", "tokens"]
    """what is counted; a character is a Unicode code point"""
    tokenizer: Text | None = None
    """whose tokens are counted: hub id, folder, or the name of one of base_models"""
    revision: Commit | None = None
    """commit of the hub model"""


class Length(RewardModel):
    """The longer answer is the better one."""

    Options = LengthOptions
    models: ClassVar = {"tokenizer": "revision"}
    tokenizer_only = ("tokenizer",)
    baseline = True

    def __init__(self, options: LengthOptions, key: str, resources: Resources) -> None:
        self.options, self.key, self.device = options, key, resources.device

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`."""
        unit = {"unit": self.options.unit}
        return unit if self._spec is None else {**unit, "tokenizer": self._spec.identity}

    def rewards(self, language: str, items: Sequence[Item]) -> Rewards:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`."""
        lengths = [[self._length(answer.messages) for answer in item.answers] for item in items]
        values = [[float(length) for length in these] for these in lengths]
        return Rewards(values, tokens=lengths if self._spec else None)

    @classmethod
    def check(cls, options: LengthOptions, key: str, bases: Collection[str], root: Path) -> Iterator[str]:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`."""
        if (options.tokenizer is None) == (options.unit == "tokens"):
            yield f"{key}.tokenizer: needed for unit: tokens, and only there"
        yield from super().check(options, key, bases, root)

    def _length(self, answer: Sequence[Message]) -> int:
        text = "\n".join(message["content"] for message in answer)
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"]) if self._spec else len(text)

    @cached_property
    def _spec(self) -> ModelSpec | None:
        if self.options.tokenizer is None:
            return None
        from rmtransfer.models.loading import ModelSpec

        return ModelSpec(self.options.tokenizer, self.options.revision, Loading(), self.key, self.device)

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        assert self._spec is not None
        return self._spec.tokenizer()
