"""Hidden states at rest: one .npz per model and language, ``id`` [n], ``chosen`` and ``rejected`` [n, hidden] in fp32, and
the tokens of their texts, prompt included, ``tokens_chosen`` and ``tokens_rejected`` [n]."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def save_states(
    path: Path, ids: Sequence[str], chosen: np.ndarray, rejected: np.ndarray, tokens: Sequence[Sequence[int]]
) -> None:
    """Write one model's states on one language's pairs; ``tokens`` [n, 2] of the chosen and the rejected answer."""
    counts = np.array(tokens)
    with path.open("wb") as file:
        np.savez(
            file,
            id=np.array(ids),
            chosen=chosen,
            rejected=rejected,
            tokens_chosen=counts[:, 0],
            tokens_rejected=counts[:, 1],
        )


def load_states(path: Path) -> dict[str, np.ndarray]:
    """Read what :func:`save_states` wrote."""
    with np.load(path) as file:
        return dict(file)
