"""How much faster scoring is than what it could be mistaken for, on one machine in one run.

Peers, on the same texts, model and threads:
  file order   batches of 8 in file order, padded to the longest, stock forward pass: what reward-bench 0.1.4 does
  sorted       our batches, longest first under a token budget, with PyTorch's default (MKL) products
  scoring      what the study runs: the same batches with oneDNN products

    .venv/bin/python benchmarks/scoring_speed.py results/sample/models/gemma-3-270m/en/seed0 texts.jsonl
"""

import argparse
import json
import time
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification

from rmtransfer.models import chat, reward
from rmtransfer.models.batching import length_batches


def file_order(model, tokenizer, sequences: list[list[int]], size: int = 8) -> torch.Tensor:
    """Rewards [n] in batches as they come."""
    rewards = []
    with torch.inference_mode():
        for start in range(0, len(sequences), size):
            batch = tokenizer.pad(
                {"input_ids": sequences[start : start + size]}, padding_side="right", return_tensors="pt"
            )
            rewards.append(model(**batch).logits[:, 0])
    return torch.cat(rewards)


def main() -> None:
    """Print seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("texts", type=Path, help="JSONL of prompt, chosen, rejected")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--tokens-per-batch", type=int, default=512)
    arguments = parser.parse_args()

    tokenizer = chat.load_tokenizer(arguments.model)
    rows = [json.loads(line) for line in arguments.texts.read_text(encoding="utf-8").splitlines()[: arguments.pairs]]
    sequences = [
        chat.encode_answer(
            tokenizer, [{"role": "user", "content": row["prompt"]}], [{"role": "assistant", "content": row[side]}]
        )
        for row in rows
        for side in ("chosen", "rejected")
    ]
    tokens = sum(map(len, sequences))
    padded = {
        "file order": sum(
            len(part) * max(map(len, part)) for i in range(0, len(sequences), 8) if (part := sequences[i : i + 8])
        ),
        "sorted": sum(
            len(b) * len(sequences[b[0]]) for b in length_batches(list(map(len, sequences)), arguments.tokens_per_batch)
        ),
    }
    padded["scoring"] = padded["sorted"]
    stock = AutoModelForSequenceClassification.from_pretrained(arguments.model, dtype=torch.float32).eval()
    packed = reward.load_reward_model(arguments.model, torch.device("cpu"))
    runs = {
        "file order": lambda: file_order(stock, tokenizer, sequences),
        "sorted": lambda: reward.score(stock, tokenizer, sequences, arguments.tokens_per_batch)[0],
        "scoring": lambda: reward.score(packed, tokenizer, sequences, arguments.tokens_per_batch)[0],
    }
    results, seconds = {}, {}
    for name, run in runs.items():
        reward.score(packed if name == "scoring" else stock, tokenizer, sequences[:2], 10_000)  # warm up
        began = time.perf_counter()
        results[name] = run()
        seconds[name] = time.perf_counter() - began
    print(f"{len(sequences)} texts, {tokens:,} tokens, {torch.get_num_threads()} threads")
    for name in runs:
        worst = (results[name] - results["file order"]).abs().max().item()
        print(
            f"{name:>10}: {seconds[name]:6.1f} s, {tokens / seconds[name]:6.0f} tokens/s, {padded[name]:,} with padding, "
            f"{seconds['file order'] / seconds[name]:.1f} x, largest difference {worst:.1e}"
        )


if __name__ == "__main__":
    main()
