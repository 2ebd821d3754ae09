"""A small decoder of every family whose packs and whose split at a block are compared with one text at a time."""

import copy

import torch
from transformers import AutoModel, Gemma3TextConfig, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

SHAPE = {
    "vocab_size": 120,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
WINDOW = 6  # shorter than most texts, so that windows end within prefixes
MIXED = ["sliding_attention", "full_attention"] * 2
FAMILIES = {
    "llama": LlamaConfig(**SHAPE),
    "qwen2": Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=2),
    "qwen3": Qwen3Config(**SHAPE),
    "mistral": MistralConfig(**SHAPE, sliding_window=WINDOW),
    "gemma3": Gemma3TextConfig(**SHAPE, sliding_window=WINDOW, layer_types=MIXED),
}


def widen(model) -> None:
    """Larger weights than a fresh model's, so that differences between inputs are not lost in rounding."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.2)


def build(config, seed=0):
    """A decoder of random weights."""
    torch.manual_seed(seed)
    model = AutoModel.from_config(copy.deepcopy(config)).eval()
    widen(model)
    return model
