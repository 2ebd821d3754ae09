"""Tiny real models and tokenizers, built once a session: nothing is downloaded, nothing is mocked."""

import json
import shutil
from pathlib import Path

import pytest
import sentencepiece
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    NllbTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)
from transformers.models.m2m_100.tokenization_m2m_100 import M2M100Tokenizer

from rmtransfer.kit.manifest import write_manifest
from rmtransfer.models.base import ensure_pad_token

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


def build_seq2seq(family: str, folder: Path) -> None:
    """A randomly initialised translation model of a family, with a SentencePiece tokenizer trained here."""

    def train(prefix: str, **options) -> sentencepiece.SentencePieceProcessor:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS),
            model_prefix=str(folder / prefix),
            vocab_size=220,
            character_coverage=1.0,
            hard_vocab_limit=False,
            minloglevel=2,
            **options,
        )
        (folder / f"{prefix}.vocab").unlink()
        return sentencepiece.SentencePieceProcessor(str(folder / f"{prefix}.model"))

    def vocabulary(processor, *first: str) -> dict[str, int]:
        pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
        return {piece: i for i, piece in enumerate(dict.fromkeys([*first, *pieces]))}

    shape = {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "init_std": 0.5,
    }
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    if family == "m2m100":
        known = vocabulary(train("sentencepiece.bpe"), "<s>", "<pad>", "</s>", "<unk>")
        (folder / "vocab.json").write_text(json.dumps(known))
        tokenizer = M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"))
        # 100 language codes and 8 made-up words follow the pieces, as in facebook/m2m100_418M
        model = M2M100ForConditionalGeneration(M2M100Config(vocab_size=len(known) + 108, **shape))
    elif family == "nllb":
        train("sentencepiece.bpe", model_type="bpe")
        codes = ["eng_Latn", "spa_Latn", "ita_Latn", "kor_Hang", "zho_Hans"]
        tokenizer = NllbTokenizer.from_pretrained(folder, additional_special_tokens=codes)
        model = M2M100ForConditionalGeneration(M2M100Config(vocab_size=len(tokenizer), **shape))
    elif family == "madlad":
        train("spiece", user_defined_symbols=["<2es>", "<2ko>", "<2zh>"], pad_id=1, eos_id=2, unk_id=0, bos_id=-1)
        tokenizer = T5Tokenizer.from_pretrained(folder, extra_ids=0)
        model = T5ForConditionalGeneration(
            T5Config(
                vocab_size=len(tokenizer),
                d_model=32,
                d_kv=16,
                d_ff=64,
                num_layers=2,
                num_heads=2,
                initializer_factor=5.0,
                decoder_start_token_id=tokenizer.pad_token_id,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        )
    else:
        codes = [">>spa<<", ">>ita<<"] if family == "opus_many" else []
        known = vocabulary(train("source"), "</s>", "<unk>", *codes, "<pad>")
        (folder / "source.model").rename(folder / "source.spm")
        shutil.copy(folder / "source.spm", folder / "target.spm")
        (folder / "vocab.json").write_text(json.dumps(known))
        tokenizer = MarianTokenizer(*(str(folder / n) for n in ("source.spm", "target.spm", "vocab.json")))
        pad = tokenizer.pad_token_id
        model = MarianMTModel(
            MarianConfig(
                vocab_size=len(known),
                pad_token_id=pad,
                decoder_start_token_id=pad,
                eos_token_id=0,
                forced_eos_token_id=0,
                **shape,
            )
        )
    tokenizer.save_pretrained(folder)
    model.eval().save_pretrained(folder)


@pytest.fixture(scope="session")
def translators(tmp_path_factory) -> dict[str, Path]:
    """A folder per family of translation models."""
    folder = tmp_path_factory.mktemp("translators")
    for family in ("m2m100", "nllb", "madlad", "opus", "opus_many"):
        build_seq2seq(family, folder / family)
    return {family: folder / family for family in ("m2m100", "nllb", "madlad", "opus", "opus_many")}


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
