"""The protocol of a linear head on a base model's hidden states, which costs no forward pass. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from rmtransfer.study.options import Options, Text

if TYPE_CHECKING:
    import numpy as np


class HeadOptions(Options):
    """A linear head on a base model's hidden states."""

    path: Text
    """the name of one of base_models"""


class Head(Protocol):
    """One kind of head: the reward of a text is the product of its last token's state with the head's weights.

    Attributes:
        Options: its configuration.
        fitted: whether the training pairs of a language decide it, so that each language has a row in the tables.
        if_strange, if_constant: as of a :class:`rmtransfer.scoring.reward_model.RewardModel`.
    """

    Options: ClassVar[type[HeadOptions]]
    fitted: ClassVar[bool] = False
    if_strange: ClassVar[str] = "the base model is damaged"
    if_constant: ClassVar[str | None] = None
    # What the study asks of every kind of reward model. The base is an input of its own.
    models: ClassVar[Mapping[str, str]] = {}
    tokenizer_only: ClassVar[Collection[str]] = ()
    reads_states: ClassVar[bool] = True
    baseline: ClassVar[bool] = True

    def __init__(self, options: Any) -> None:
        """``options`` is an instance of ``Options``."""

    def weights(self, hidden: int, pairs: Mapping[str, np.ndarray] | None) -> np.ndarray:
        """The weights [heads, hidden] of one head, or of several that are drawn: the rows' seeds are 0, 1, ...

        Args:
            hidden: size of a state.
            pairs: states ``chosen`` and ``rejected`` [pairs, hidden] of the training pairs in a language; None unless ``fitted``.
        """

    def settings(self) -> dict[str, Any]:
        """What decides the weights beside the base and the pairs, JSON-able."""
        return {}

    @classmethod
    def runs_a_model(cls, options: Any) -> bool:
        """Whether a model computes on this machine."""
        return False

    @classmethod
    def check(cls, options: Any, key: str, bases: Collection[str], root: Path) -> Iterator[str]:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`."""
        if options.path not in bases:
            yield f"{key}.path: {options.path!r} is none of base_models ({', '.join(bases) or 'there are none'}); name one of them"
