"""What a reward model must beat: a head that was never trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from rmtransfer.scoring.heads import Head, HeadOptions

if TYPE_CHECKING:
    import numpy as np


class UntrainedOptions(HeadOptions):
    """Random heads on a base model that is not trained."""

    kind: Literal["untrained"]
    draws: Annotated[int, Field(ge=2)] = 20
    """heads that are drawn; each is a seed of the tables"""


class Untrained(Head):
    """Heads of weights from N(0, 1 / sqrt(hidden + 1)), the second parameter being the standard deviation.

    What training starts from (Stiennon et al., arXiv 2009.01325, and the authors of arXiv 2410.18027). A head knows nothing, yet
    is right or wrong on many texts at once: its accuracy spreads around chance further than that many coins would.
    """

    Options = UntrainedOptions

    def __init__(self, options: UntrainedOptions) -> None:
        self.draws = options.draws

    def weights(self, hidden: int, pairs: Mapping[str, np.ndarray] | None) -> np.ndarray:
        """See :class:`rmtransfer.scoring.heads.Head`; more draws leave the first ones as they are."""
        import numpy as np

        drawn = [np.random.default_rng(seed).standard_normal(hidden) for seed in range(self.draws)]
        return np.stack(drawn) / (hidden + 1) ** 0.5

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.scoring.heads.Head`."""
        return {"draws": self.draws}
