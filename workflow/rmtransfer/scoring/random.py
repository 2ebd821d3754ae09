"""What a reward model must beat: chance."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from rmtransfer.scoring.reward_model import Resources, RewardModel, Rewards
from rmtransfer.study.options import Options

if TYPE_CHECKING:
    from rmtransfer.texts.items import Item


class RandomOptions(Options):
    """A number by chance."""

    kind: Literal["random"]
    seed: Annotated[int, Field(ge=0)] = 0
    """another seed, other numbers"""


class Random(RewardModel):
    """A number in [0, 1) that depends on the seed, the language, the row's id and the side, and on nothing else."""

    Options = RandomOptions
    by_text = False
    baseline = True

    def __init__(self, options: RandomOptions, key: str, resources: Resources) -> None:
        self.seed = options.seed

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`."""
        return {"seed": self.seed}

    def rewards(self, language: str, items: Sequence[Item]) -> Rewards:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`."""
        return Rewards([[self._number(f"{language}/{a.row}/{a.name}") for a in item.answers] for item in items])

    def _number(self, name: str) -> float:
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return (int.from_bytes(digest[:8], "big") >> 11) / 2**53  # as many bits as a float keeps
