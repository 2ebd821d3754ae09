"""What score files hold, whoever wrote them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rmtransfer.kit.errors import StudyError
from rmtransfer.scoring.heads import Head
from rmtransfer.scoring.reward_model import RewardModel
from rmtransfer.texts.corpus import Row


def pair_columns(language: str, rows: Sequence[Row], rewards: np.ndarray, tokens: np.ndarray | None) -> dict[str, Any]:
    """Columns of a score file from rewards and token counts [rows, 2], chosen and rejected."""
    counts: Any = [pa.nulls(len(rows), pa.int64())] * 2 if tokens is None else tokens.T
    return {
        "id": [row["id"] for row in rows],
        "subset": [row["subset"] for row in rows],
        **({"cluster": [row["cluster"] for row in rows]} if "cluster" in rows[0] else {}),
        "language": [language] * len(rows),
        "reward_chosen": rewards[:, 0],
        "reward_rejected": rewards[:, 1],
        "tokens_chosen": counts[0],
        "tokens_rejected": counts[1],
    }


def check_rewards(model: RewardModel | Head, key: str, rewards: np.ndarray, language: str, rows: Sequence[str]) -> None:
    """Refuse rewards [answers] that say nothing.

    Args:
        key: names the model in messages.
        rows: the row of each answer.

    Raises:
        StudyError: one is not a finite number, or all rewards of a model that learned are equal.
    """
    strange = np.flatnonzero(~np.isfinite(rewards))
    if len(strange):
        raise StudyError(
            f"{key}: {len(strange)} of {len(rewards)} rewards on {language} are not finite numbers, the first on row "
            f"{rows[strange[0]]!r}; {model.if_strange}"
        )
    if model.if_constant is not None and len(rewards) > 1 and (rewards == rewards[0]).all():
        raise StudyError(f"{key}: all {len(rewards)} rewards on {language} are {rewards[0]:g}; {model.if_constant}")


def write_settings(path: Path, value: Mapping[str, Any]) -> None:
    """Write what decides the scores beside them, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
