"""Tiny real models and tokenizers, built once a session: nothing is downloaded, nothing is mocked."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from rmtransfer.base_model import ensure_pad_token
from rmtransfer.manifest import write_manifest

ROOT = Path(__file__).parent.parent
QUESTION_ANSWER = (ROOT / "resources/chat_templates/question_answer.jinja").read_text(encoding="utf-8")
# The families' own templates, shortened to what text-only conversations use.
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
QWEN = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = [
    "Question: Answer: What is the capital of France? Paris is the capital of France.",
    "¿Cuál es la capital de Francia? La capital de Francia es París.",
    "프랑스의 수도는 어디인가요? 프랑스의 수도는 파리입니다.",
    "法国的首都是哪里？法国的首都是巴黎。",
    "1. one\n2. two\n\n```python\nprint(1 + 1)\n```",
] * 4


def build_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the special tokens, BOS behaviour and template of a model family."""
    special = {
        "gemma": ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"],
        "llama": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "qwen": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    }[family]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    bos = {"gemma": "<bos>", "llama": "<|begin_of_text|>", "qwen": None}[family]
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token={"gemma": "<eos>", "llama": "<|eot_id|>", "qwen": "<|im_end|>"}[family],
        pad_token="<pad>" if family == "gemma" else None,
        extra_special_tokens=[t for t in special if t not in (bos, "<eos>", "<pad>")],
        chat_template={"gemma": GEMMA, "llama": LLAMA, "qwen": QWEN}[family],
    )


def build_model(family: str, tokenizer: PreTrainedTokenizerFast):
    """A randomly initialised causal language model of a family, 3 layers of 32 units."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": len(tokenizer) + 3,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if family == "gemma":
        config = Gemma3TextConfig(
            **shape,
            head_dim=16,
            sliding_window=8,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        )
        model = Gemma3ForCausalLM(config)
    elif family == "llama":
        model = LlamaForCausalLM(LlamaConfig(**shape))
    else:
        model = Qwen2ForCausalLM(Qwen2Config(**shape))
    with torch.no_grad():  # larger than the default, so that differences between inputs are not lost in rounding
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.2)
    return model.eval()


@pytest.fixture(scope="session", params=["gemma", "llama", "qwen"])
def family(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def tokenizers() -> dict:
    return {family: build_tokenizer(family) for family in ("gemma", "llama", "qwen")}


@pytest.fixture(scope="session")
def bases(tokenizers, tmp_path_factory) -> dict[str, Path]:
    """A prepared base-model folder per family."""
    folders = {}
    for family, tokenizer in tokenizers.items():
        folder = tmp_path_factory.mktemp(f"base_{family}")
        model = build_model(family, tokenizer)
        tokenizer = build_tokenizer(family)
        ensure_pad_token(tokenizer, model)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_manifest(folder, {"stage": "base_model"})
        folders[family] = folder
    return folders


@pytest.fixture(scope="session")
def base(bases, family) -> Path:
    return bases[family]


def pair(identity: str, prompt: str, chosen: str, rejected: str, subset: str | None = None) -> dict:
    """A normalised preference row."""
    return {
        "id": identity,
        "subset": subset,
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


@pytest.fixture(scope="session")
def pairs() -> list[dict]:
    """Twelve pairs of different lengths."""
    return [
        pair(
            f"r{i}",
            "What is " + "the " * i + "capital?",
            "Paris is " * (i % 5 + 1),
            "No " * (i % 3 + 1) + str(i),
            "chat",
        )
        for i in range(12)
    ]
