"""How near scoring and training come to what a GPU can do, in bf16, on random models of Llama's shapes.

    PYTHONPATH=workflow .venv/bin/python -m benchmarks.gpu
    PYTHONPATH=workflow .venv/bin/python -m benchmarks.gpu --device cpu --tiny    (that the code runs, no more)

  scoring   texts of 1,024 tokens that share nothing; then pairs of 1,024 tokens on average that share a prompt of 512, against
            reward-bench's batches of 8 in file order with a padding mask
  training  the paper's recipe: all parameters, 128 pairs of 2,048 tokens a step that share a prompt of 1,024, 8-bit AdamW

MFU: operations of what was computed (benchmarks/flops.py, recomputed activations not counted) a second, over those of a large
bf16 matrix product on the same card in the same run. Each runs in a process of its own; memory is what PyTorch allocated.
"""

import argparse
import importlib.util
import itertools
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import common, flops
from benchmarks.scoring_speed import file_order, rewards_in_file_order
from benchmarks.training_speed import train_ours

# Those of Llama 3.2 1B and 3B (their config.json).
_LLAMA: dict[str, Any] = {
    "intermediate_size": 8192,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 4096,
}
SHAPES: dict[str, dict[str, Any]] = {
    "1B": {**_LLAMA, "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32},
    "3B": {**_LLAMA, "hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 24, "head_dim": 128},
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 1100,
        "max_position_embeddings": 4096,
    },
}
_WORDS = 1000
_TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m['content'] }} {{ eos_token }}{% endfor %}"


class _Trained(BaseException):
    """Ends a job once it has trained: what follows is saving."""


def main() -> None:
    """Print tokens a second, MFU and peak memory."""
    parser = common.parser_of(__doc__, "gpu")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="a tiny model and short texts")
    parser.add_argument("--shapes", nargs="+", choices=("1B", "3B"), default=["1B", "3B"])
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--text-tokens", type=int, default=1024)
    parser.add_argument("--pair-tokens", type=int, default=2048, help="of each text to train on")
    parser.add_argument("--pairs-per-step", type=int, default=128)
    parser.add_argument("--steps", type=int, default=3, help="the first one is not counted")
    parser.add_argument("--tokens-per-batch", type=int, default=16384)
    parser.add_argument("--training-tokens-per-batch", type=int, default=4096)
    parser.add_argument("--gradient-checkpointing", action="store_true", help="always; else when memory runs out")
    parser.add_argument("--alone", choices=("scoring", "training"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.tiny:
        small = {"texts": 16, "text_tokens": 32, "pair_tokens": 64, "pairs_per_step": 2, "steps": 2}
        vars(arguments).update(small, shapes=["tiny"], tokens_per_batch=128, training_tokens_per_batch=128)

    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device: nothing to measure here; --device cpu --tiny shows that the code runs")
    if arguments.alone:
        return {"scoring": _scoring, "training": _training}[arguments.alone](arguments)

    gpu = torch.cuda.get_device_name() if arguments.device == "cuda" else None
    gains, scoring, training = [], [], []
    for shape in arguments.shapes:
        said = _run("scoring", shape, arguments)
        gains.append(common.Gain(f"scoring, {shape}", "the card's matrix products", f"{said['mfu']:.0%} MFU"))
        faster = common.ratio(said["stock_seconds"], said["pair_seconds"])
        gains.append(
            common.Gain(
                f"scoring pairs, {shape}",
                "reward-bench's batches",
                f"{faster:.1f} times faster",
                f"{said['computed']:.2f}",
            )
        )
        scoring.append(
            {
                "scoring": shape,
                "tokens/s": f"{said['rate']:,.0f}",
                "TFLOP/s": f"{said['tflops']:,.1f}",
                "of a product's": f"{said['product']:,.1f}",
                "MFU": f"{said['mfu']:.1%}",
                "peak memory, GB": f"{said['peak']:.1f}",
                "pairs: real tokens/s": f"{said['pair_rate']:,.0f}",
                "times faster than reward-bench": f"{faster:.2f}",
                "largest difference of rewards": f"{said['difference']:.1e}",
            }
        )
        said = _run("training", shape, arguments)
        gains.append(common.Gain(f"training, {shape}", "the card's matrix products", f"{said['mfu']:.0%} MFU"))
        training.append(
            {
                "training": shape,
                "real tokens/s": f"{said['rate']:,.0f}",
                "seconds a step": common.spread(said["seconds"], 2),
                "TFLOP/s": f"{said['tflops']:,.1f}",
                "MFU": f"{said['mfu']:.1%}",
                "peak memory, GB": f"{said['peak']:.1f}",
                "optimiser": said["optimizer"],
            }
        )
    common.publish(
        "gpu",
        common.machine(arguments.threads, gpu),
        "python -m benchmarks.gpu",
        gains,
        [common.Table(scoring), common.Table(training)],
        record=arguments.record,
    )
    return None


def _run(what: str, shape: str, arguments: argparse.Namespace) -> dict[str, Any]:
    given: list[object] = ["--alone", what, "--device", arguments.device]
    given += ["--tiny"] if shape == "tiny" else ["--shapes", shape]
    options = ("texts", "text_tokens", "pair_tokens", "pairs_per_step", "steps", "tokens_per_batch")
    for option in (*options, "training_tokens_per_batch"):
        given += [f"--{option.replace('_', '-')}", getattr(arguments, option)]
    given += ["--gradient-checkpointing"] * arguments.gradient_checkpointing
    return common.in_new_process("gpu", given, arguments.threads).said


def _config(shape: str) -> Any:
    from transformers import LlamaConfig

    facts: dict[str, Any] = {"num_labels": 1, "tie_word_embeddings": True}
    return LlamaConfig(**SHAPES[shape], **facts, pad_token_id=0, bos_token_id=1, eos_token_id=2)


def _product(device: str) -> float:
    import torch

    from rmtransfer.models.device import inference_dtype
    from rmtransfer.models.gpus import product_rate

    where = torch.device(device)
    return product_rate(where, inference_dtype(where), 8192 if device == "cuda" else 256)


def _peak(device: str) -> float:
    import torch

    return torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else common.peak_memory()


def _scoring(arguments: argparse.Namespace) -> None:
    import torch
    from transformers import LlamaForSequenceClassification

    from rmtransfer.models import reward
    from rmtransfer.models.attention import use_packed_attention
    from rmtransfer.models.device import inference_dtype
    from rmtransfer.models.gpus import synchronize
    from rmtransfer.models.packing import group_texts

    device, budget, length = arguments.device, arguments.tokens_per_batch, arguments.text_tokens
    (shape,) = arguments.shapes
    with torch.device(device):
        model: Any = LlamaForSequenceClassification(_config(shape))
    model = model.to(inference_dtype(torch.device(device))).eval()
    draw = random.Random(0)

    def some(count: int) -> list[int]:
        return [draw.randrange(3, _WORDS) for _ in range(count)]

    alike = [some(length) for _ in range(arguments.texts)]
    pairs = []
    for _ in range(arguments.texts // 2):
        prompt = some(length // 2)
        pairs += [prompt + some(draw.randint(length // 8, length * 7 // 8)) for _ in range(2)]
    rewards_in_file_order(model, file_order(pairs)[0])
    stock_seconds = []
    for _ in range(2):
        synchronize(device)
        began = time.perf_counter()
        stock = rewards_in_file_order(model, pairs)
        stock_seconds.append(time.perf_counter() - began)
    reason = use_packed_attention(model)
    if reason:
        raise SystemExit(f"no packs: {reason}")
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    timed: dict[str, list[float]] = {}
    found = {}
    for name, texts in (("alike", alike), ("pairs", pairs)):
        reward.score(model, texts[: 2 * budget // length], budget)
        for _ in range(2):
            synchronize(device)
            began = time.perf_counter()
            found[name] = reward.score(model, texts, budget)[0]
            timed.setdefault(name, []).append(time.perf_counter() - began)
    groups = group_texts(alike, budget)
    done = flops.shape_of(model.config).forward(flops.of_groups(groups)) / min(timed["alike"])
    product = _product(device)
    real = sum(map(len, pairs))
    common.say(
        rate=sum(map(len, alike)) / min(timed["alike"]),
        tflops=done / 1e12,
        product=product / 1e12,
        mfu=done / product,
        peak=_peak(device),
        pair_rate=real / min(timed["pairs"]),
        pair_seconds=timed["pairs"],
        stock_seconds=stock_seconds,
        computed=sum(group.tokens for group in group_texts(pairs, budget)) / real,
        difference=(found["pairs"] - torch.tensor(stock)).abs().max().item(),
    )


def base_model(folder: Path, shape: str, device: str) -> Path:
    """A base model of random weights with a tokenizer of words, w3 to w999."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from rmtransfer.kit.manifest import write_manifest

    words = {"<pad>": 0, "<bos>": 1, "<eos>": 2} | {f"w{i}": i for i in range(3, _WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        chat_template=_TEMPLATE,
    ).save_pretrained(folder)
    with torch.device(device):
        model: Any = LlamaForCausalLM(_config(shape))
    model.to(torch.bfloat16).save_pretrained(folder)
    write_manifest(folder, {"stage": "random"})
    return folder


def _training(arguments: argparse.Namespace) -> None:
    import torch
    from transformers import AutoConfig, Trainer, TrainerCallback

    from rmtransfer.models import chat
    from rmtransfer.models.gpus import synchronize
    from rmtransfer.models.packing import group_of
    from rmtransfer.models.training import encode_pairs

    device = arguments.device
    (shape,) = arguments.shapes
    optimizer = "paged_adamw_8bit" if device == "cuda" and importlib.util.find_spec("bitsandbytes") else "adamw"
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            synchronize(device)
            ends.append(time.perf_counter())

    stock_train = Trainer.train

    def train(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.add_callback(Clock())
        stock_train(self, *args, **kwargs)
        raise _Trained

    Trainer.train = train  # type: ignore[method-assign]
    draw = random.Random(0)

    def text(count: int) -> str:
        return " ".join(f"w{draw.randrange(3, _WORDS)}" for _ in range(count))

    half = arguments.pair_tokens // 2
    rows = [
        {
            "id": str(number),
            "prompt": [{"role": "user", "content": text(half - 2)}],  # beside BOS and EOS
            **{side: [{"role": "assistant", "content": text(half - 1)}] for side in ("chosen", "rejected")},
        }
        for number in range(arguments.steps * arguments.pairs_per_step)
    ]
    recipe = {
        "learning_rate": 1e-5,
        "epochs": 1,
        "pairs_per_step": arguments.pairs_per_step,
        "warmup_ratio": 0.1,
        "max_length": arguments.pair_tokens,
        "freeze_embeddings": False,
        "frozen_layers": 0,
        "optimizer": optimizer,
        "head": "normal",
        "evaluations": 2,
    }
    checkpointing: bool | str = arguments.gradient_checkpointing or "auto"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = base_model(folder / "base", shape, device)
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        pairs = encode_pairs(chat.load_tokenizer(base), rows[: arguments.pairs_per_step], arguments.pair_tokens)
        config = AutoConfig.from_pretrained(base)
        try:
            train_ours(base, rows, recipe, folder, arguments.training_tokens_per_batch, device, checkpointing)
        except _Trained:
            peak = _peak(device)
    work = flops.of_groups(group_of(list(pair.values())) for pair in pairs)
    seconds = [after - before for before, after in itertools.pairwise(ends)]
    done = flops.shape_of(config).training(work, 0, embeddings=True) / statistics.median(seconds)
    common.say(
        rate=sum(len(ids) for pair in pairs for ids in pair.values()) / statistics.median(seconds),
        seconds=seconds,
        tflops=done / 1e12,
        mfu=done / _product(device),
        peak=peak,
        optimizer=optimizer,
    )


if __name__ == "__main__":
    main()
