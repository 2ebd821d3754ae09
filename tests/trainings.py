"""A small training, and what its tests share."""

import torch
from transformers import AutoModelForSequenceClassification

from rmtransfer.models import training

RECIPE = {
    "learning_rate": 1e-3,
    "epochs": 2,
    "pairs_per_step": 4,
    "warmup_ratio": 0.1,
    "max_length": 512,
    "freeze_embeddings": True,
    "frozen_layers": 1,
    "optimizer": "adamw",
    "head": "normal",
    "held_out": 0.0,
    "evaluations": 5,
}
CARD = {"base_model": "tiny", "train_language": "en", "languages": "en"}


def train(base, pairs, tmp_path, name="out", recipe=RECIPE, **options):
    """Train on the CPU and load what was saved as anybody would."""
    output = tmp_path / name
    training.train_reward_model(
        base,
        pairs,
        recipe,
        0,
        output,
        tmp_path / "work",
        card=CARD,
        device="cpu",
        **{"tokens_per_batch": 10_000, "checkpoint_minutes": 10, **options},
    )
    if (output / "adapter_config.json").exists():
        return None
    return AutoModelForSequenceClassification.from_pretrained(output)


def parameters(model):
    """All weights in one vector."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])
