"""What a reward model must beat: what its base model's states tell without training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from rmtransfer.scoring.heads import Head, HeadOptions

if TYPE_CHECKING:
    import numpy as np


class ProbeOptions(HeadOptions):
    """A Bradley-Terry probe of a base model that is not trained, one for each training language."""

    kind: Literal["probe"]


class Probe(Head):
    """A head that is fitted to the training pairs of one language, see :mod:`rmtransfer.models.probe`."""

    Options = ProbeOptions
    fitted = True
    if_constant = "the chosen and the rejected answers of the training pairs have the same states; look at preferences"

    def __init__(self, options: ProbeOptions) -> None:
        pass

    def weights(self, hidden: int, pairs: Mapping[str, np.ndarray] | None) -> np.ndarray:
        """See :class:`rmtransfer.scoring.heads.Head`."""
        from rmtransfer.models.probe import fit_probe

        assert pairs is not None  # fitted
        return fit_probe(pairs["chosen"], pairs["rejected"])[None]
