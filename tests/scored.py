"""Score rows as a job of the workflow does."""

import json
from pathlib import Path

import pandas as pd
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rmtransfer.scoring.job import Outputs, score


def run(
    tmp_path: Path, options: dict, rows: dict, *, budget=256, at_once=2, states=False, trunk=None
) -> dict[str, pd.DataFrame]:
    """Language to what is in the score file, which is in ``tmp_path/scores``; states are in ``tmp_path/states``."""
    scores = {language: tmp_path / f"scores/{language}.parquet" for language in rows}
    hidden = {language: tmp_path / f"states/{language}.npz" for language in rows}
    score(
        options,
        "reward_models.theirs",
        rows,
        Outputs(scores, hidden if states else None, tmp_path / "scores/settings.json"),
        tmp_path / "cache",
        tokens_per_batch=budget,
        requests_at_once=at_once,
        device="cpu",
        trunk=trunk,
    )
    return {language: pd.read_parquet(path) for language, path in scores.items()}


def settings(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "scores/settings.json").read_text())


def classifier(base: Path, folder: Path, **config) -> Path:
    """A sequence classifier on a base model, with a head of large weights."""
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(base, **{"num_labels": 1, **config})
    with torch.no_grad():
        model.score.weight.normal_(0, 1)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder
