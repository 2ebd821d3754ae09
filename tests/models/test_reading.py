"""How much a model reads, against actual forward passes where positions have an end, and against published configurations."""

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    BloomConfig,
    CamembertConfig,
    GPT2Config,
    IBertConfig,
    LlamaConfig,
    MistralConfig,
    MPNetConfig,
    MptConfig,
    OPTConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from rmtransfer.kit.errors import StudyError
from rmtransfer.models.reading import check_ids, most_tokens

SMALL = {
    "vocab_size": 99,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 8,
}


@pytest.mark.parametrize(
    ("config", "most"),
    [
        (RobertaConfig(**SMALL, max_position_embeddings=514), 512),
        (XLMRobertaConfig(**SMALL, max_position_embeddings=514), 512),
        (CamembertConfig(**SMALL, max_position_embeddings=514, pad_token_id=1), 512),
        (RobertaConfig(**SMALL, max_position_embeddings=30, pad_token_id=5), 24),
        (IBertConfig(**SMALL, max_position_embeddings=64, pad_token_id=1), 62),
        (MPNetConfig(**SMALL, max_position_embeddings=64), 62),
        (BertConfig(**SMALL, max_position_embeddings=512), 512),
        (GPT2Config(vocab_size=99, n_embd=8, n_layer=1, n_head=1, n_positions=64), 64),
        (OPTConfig(vocab_size=99, hidden_size=8, word_embed_proj_dim=8, num_hidden_layers=1, num_attention_heads=1, ffn_dim=8, max_position_embeddings=64), 64),
        (MptConfig(vocab_size=99, d_model=8, n_layers=1, n_heads=1, max_seq_len=64), 64),
    ],
)  # fmt: skip
def test_by_a_forward_pass(config, most):
    assert most_tokens(config) == most
    model = AutoModel.from_config(config).eval()
    with torch.inference_mode():
        model(torch.full((1, most), 7))
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, most + 1), 7))


LLAMA_3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
GEMMA_3 = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}


@pytest.mark.parametrize(
    ("config", "most"),
    [
        (BloomConfig(vocab_size=99, hidden_size=8, n_layer=1, n_head=1), None),  # ALiBi: no table, no end
        (LlamaConfig(**SMALL, max_position_embeddings=4096), 4096),
        (MistralConfig(**SMALL, max_position_embeddings=32768, sliding_window=4096), 32768),  # the window is no limit
        (LlamaConfig(**SMALL, max_position_embeddings=4096, rope_scaling={"type": "linear", "factor": 4.0}), 16384),
        (LlamaConfig(**SMALL, max_position_embeddings=4096, rope_scaling={"rope_type": "dynamic", "factor": 2.0}), 8192),
        # Llama 3.1, Qwen 2.5 with YaRN as its card says, DeepSeek V3
        (LlamaConfig(**SMALL, max_position_embeddings=131072, rope_scaling={**LLAMA_3, "original_max_position_embeddings": 8192}), 131072),
        (LlamaConfig(**SMALL, max_position_embeddings=32768, rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}), 131072),
        (LlamaConfig(**SMALL, max_position_embeddings=163840, rope_scaling={"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096}), 163840),
        # Gemma 3: 131,072 is what its scaling comes to; within a model that sees, too
        (AutoConfig.for_model("gemma3_text", max_position_embeddings=131072, rope_parameters=GEMMA_3), 131072),
        (AutoConfig.for_model("gemma3", text_config={"model_type": "gemma3_text", "max_position_embeddings": 131072}), 131072),
    ],
)  # fmt: skip
def test_by_configuration(config, most):
    assert most_tokens(config) == most


def test_tokens_that_a_model_does_not_know():
    config = LlamaConfig(**SMALL)
    check_ids([((1, 98), "row 'a'"), ((), "row 'b'")], config, "m", "remove it")
    with pytest.raises(StudyError, match="m: row 'c' holds token 99, and the model knows 99 tokens, from 0; remove it"):
        check_ids([((1, 98), "row 'a'"), ((99,), "row 'c'")], config, "m", "remove it")
