"""What a training wrote down of itself, step by step, and the table of all trainings of a study."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rmtransfer.study.study import RewardModelId

TRAINING_LOG = "training_log.csv"  # in a reward model's folder
COLUMNS = (
    "step",
    "pairs",
    "epoch",
    "learning_rate",
    "loss",
    "accuracy",
    "held_out_loss",
    "held_out_accuracy",
)


def training_log(history: Sequence[Mapping[str, float]], pairs: int, pairs_per_step: int) -> list[dict[str, Any]]:
    """One row of ``COLUMNS`` for each step of a trainer's history, by step; step 0 is before the first one.

    ``pairs`` counts those seen so far, again in each epoch. ``learning_rate`` is that of the body, and ``loss`` (mean of the
    Bradley-Terry loss) and ``accuracy`` are of the step's pairs before it moved any weight; the held-out ones are of the model
    after the step, NaN where they were not measured.

    Args:
        pairs: that are trained on.
    """
    steps_per_epoch = -(-pairs // pairs_per_step)
    rows: dict[int, dict[str, Any]] = {}
    for entry in history:
        if "loss" in entry or "held_out_loss" in entry:
            epochs, steps = divmod(step := int(entry["step"]), steps_per_epoch)
            seen = epochs * pairs + steps * pairs_per_step
            row = rows.setdefault(step, {"step": step, "pairs": seen, "epoch": seen / pairs})
            row |= {name: entry[name] for name in COLUMNS[3:] if name in entry}
    return [{name: rows[step].get(name, float("nan")) for name in COLUMNS} for step in sorted(rows)]


def write_training_log(log: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write it beside the weights."""
    pd.DataFrame(list(log), columns=list(COLUMNS)).to_csv(folder / TRAINING_LOG, index=False, float_format="%.6g")


def gather_training_logs(folders: Mapping[RewardModelId, Path], output: Path) -> None:
    """The logs of a study's reward models as one table: ``base_model, train_language, seed`` and ``COLUMNS``."""
    logs = [
        pd.read_csv(folder / TRAINING_LOG).assign(
            base_model=model.base_model, train_language=model.train_language, seed=model.seed
        )
        for model, folder in folders.items()
    ]
    table = pd.concat(logs)[["base_model", "train_language", "seed", *COLUMNS]]
    table.to_csv(output, index=False)
