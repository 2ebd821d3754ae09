"""A trainer's history as rows, and all rows of a study as one table."""

import math

import pandas as pd

from rmtransfer.models.training_log import COLUMNS, gather_training_logs, training_log, write_training_log
from rmtransfer.study.study import RewardModelId

HISTORY = [
    {"step": 0, "held_out_loss": 0.7, "held_out_accuracy": 0.5},
    {"step": 1, "loss": 0.9, "accuracy": 0.25, "learning_rate": 0.0, "epoch": 0.5, "margin": 1.0},
    {"step": 2, "held_out_loss": 0.6, "held_out_accuracy": 0.75},
    {"step": 2, "loss": 0.8, "accuracy": 0.5, "learning_rate": 1e-3, "epoch": 1.0, "margin": 1.0},
    {"step": 3, "loss": 0.7, "accuracy": 0.5, "learning_rate": 5e-4, "epoch": 1.5, "margin": 1.0},
    {"step": 3, "train_runtime": 3.0, "train_loss": 0.8},
]


def test_pairs_seen_count_incomplete_steps(tmp_path):
    """6 pairs, 4 a step: 4, 6, and 4 of the second epoch."""
    log = training_log(HISTORY, 6, 4)
    assert [row["step"] for row in log] == [0, 1, 2, 3]
    assert [row["pairs"] for row in log] == [0, 4, 6, 10]
    assert [round(row["epoch"], 4) for row in log] == [0, 0.6667, 1, 1.6667]
    assert log[2] == dict(zip(COLUMNS, (2, 6, 1.0, 1e-3, 0.8, 0.5, 0.6, 0.75), strict=True))
    assert math.isnan(log[0]["loss"])
    assert math.isnan(log[3]["held_out_loss"])


def test_logs_of_a_study_are_one_table(tmp_path):
    models = [RewardModelId("tiny", "en", 0), RewardModelId("tiny", "en.24", 1)]
    for model in models:
        (tmp_path / model.id).mkdir(parents=True)
        write_training_log(training_log(HISTORY, 6, 4), tmp_path / model.id)
    gather_training_logs({model: tmp_path / model.id for model in models}, tmp_path / "training.csv")
    table = pd.read_csv(tmp_path / "training.csv")
    assert list(table) == ["base_model", "train_language", "seed", *COLUMNS]
    assert table[["train_language", "seed"]].drop_duplicates().values.tolist() == [["en", 0], ["en.24", 1]]
    assert table["held_out_accuracy"].tolist()[:3:2] == [0.5, 0.75]
    assert table["loss"].isna().tolist() == [True, False, False, False] * 2
