"""How much faster scoring is than what it could be mistaken for, in fp32 on a CPU.

Contestants, on the same texts, model and threads:
  packs         what the study runs: rows without padding, shared beginnings computed once, oneDNN products
  sorted        length-sorted padded batches within the same budget, oneDNN products: this project before it had packs
  reward-bench  batches of 8 texts in file order, left-padded, stock forward pass: as reward-bench 0.1.4 does

    PYTHONPATH=workflow .venv/bin/python -m benchmarks.scoring_speed MODEL_FOLDER PAIRS.jsonl

Within one process, then each alone in a process of its own with imports and load: ours as a job of the study, reward-bench's
with torch and transformers alone. Reward-bench itself batches 8 chosen answers, then their 8 rejected ones, which pads more.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import common

BATCH = 8
CONTESTANTS = ("packs", "sorted", "reward-bench")
Texts = Sequence[Sequence[int]]


def file_order(texts: Sequence[Any]) -> list[Sequence[Any]]:
    """Texts as reward-bench batches them."""
    return [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]


def computed_tokens(texts: Texts, tokens_per_batch: int) -> dict[str, int]:
    """Tokens that each contestant computes, padding included."""
    from rmtransfer.models.batching import length_batches
    from rmtransfer.models.packing import group_texts

    lengths = [len(text) for text in texts]
    batches = length_batches(lengths, tokens_per_batch)
    return {
        "packs": sum(group.tokens for group in group_texts(texts, tokens_per_batch)),
        "sorted": sum(len(batch) * lengths[batch[0]] for batch in batches),
        "reward-bench": sum(len(batch) * max(map(len, batch)) for batch in file_order(texts)),
    }


def encoded(folder: Path, rows: Sequence[dict[str, Any]]) -> list[list[int]]:
    """Chosen and rejected of each pair in turn, as token ids."""
    from rmtransfer.models import chat

    tokenizer = chat.load_tokenizer(folder)
    return [chat.encode_answer(tokenizer, row["prompt"], row[side]) for row in rows for side in ("chosen", "rejected")]


def rewards_in_file_order(model: Any, texts: Texts) -> list[float]:
    """Rewards [texts] by the stock forward pass of a stock model."""
    import torch

    from rmtransfer.models.batching import left_padded

    rewards: list[float] = []
    with torch.inference_mode():
        for batch in file_order(texts):
            ids, mask = left_padded(batch, model.config.get_text_config().pad_token_id)
            rewards += model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits[:, 0].tolist()
    return rewards


def rewards_sorted(model: Any, texts: Texts, tokens_per_batch: int) -> list[float]:
    """Rewards [texts] in length-sorted padded batches."""
    import torch

    from rmtransfer.models.packing import padded_rows
    from rmtransfer.models.reward import last_token_states, rewards_of

    rewards = torch.empty(len(texts))
    with torch.inference_mode():
        for batch in padded_rows(texts, tokens_per_batch):
            rewards[batch.members] = rewards_of(model, last_token_states(model, batch))
    return rewards.tolist()


def main() -> None:
    """Print tokens, seconds and ratios."""
    parser = common.parser_of(__doc__, "scoring_speed")
    parser.add_argument("model", type=Path, help="folder of a reward model that a study has trained")
    parser.add_argument("texts", type=Path, help="JSONL of id, prompt, chosen, rejected")
    parser.add_argument("--pairs", type=int, default=200, help="the first so many")
    parser.add_argument("--alone-pairs", type=int, default=48, help="for processes of their own")
    parser.add_argument("--tokens-per-batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--count-only", action="store_true", help="count tokens, compute nothing")
    parser.add_argument("--alone", choices=("packs", "reward-bench"), help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    rows = common.pairs_of(arguments.texts, arguments.pairs)
    if arguments.alone == "packs":
        return _alone_as_a_job(arguments, rows)
    texts = encoded(arguments.model, rows)
    if arguments.alone:
        return _alone_as_reward_bench(arguments, texts)
    real = sum(map(len, texts))
    computed = computed_tokens(texts, arguments.tokens_per_batch)
    if arguments.count_only:
        print(f"{len(texts)} texts, {real:,} tokens")
        for name, tokens in computed.items():
            print(f"{name:>13}: {tokens:8,} computed, {tokens / real:.3f} for each real one")
        by_side = [text for rows in zip(*map(file_order, (texts[0::2], texts[1::2])), strict=True) for text in rows]
        apart = sum(len(batch) * max(map(len, batch)) for batch in by_side)
        print(f"{'':>13}  {apart:8,} ({apart / real:.3f}) as 8 chosen answers, then 8 rejected ones")
        return None

    within, worst = _within(arguments, texts)
    alone, alone_worst = _alone(arguments)
    best, peer = within["packs"], within["reward-bench"]
    by_process, by_process_peer = alone["packs"], alone["reward-bench"]
    what = f"scoring {len(texts)} texts with a loaded model"
    padding = {name: f"{computed['packs'] / real:.2f}, {computed[name] / real:.2f}" for name in CONTESTANTS}
    common.publish(
        "scoring_speed",
        common.machine(arguments.threads),
        f"python -m benchmarks.scoring_speed MODEL PAIRS --pairs {arguments.pairs}",
        [
            common.Gain(what, "reward-bench's batches", common.faster(peer, best), padding["reward-bench"]),
            common.Gain(what, "sorted batches", common.faster(within["sorted"], best), padding["sorted"]),
            common.Gain(
                f"one reward model alone on {2 * arguments.alone_pairs} texts, imports and load included",
                "reward-bench's batches",
                common.faster(by_process_peer, by_process),
            ),
        ],
        [
            common.Table(
                [
                    {
                        "loaded model": name,
                        "seconds": common.spread(within[name].seconds),
                        "CPU seconds": common.spread(within[name].cpu),
                        "real tokens/s": f"{real / min(within[name].seconds):,.0f}",
                        "computed tokens": f"{computed[name]:,}",
                        "for each real one": f"{computed[name] / real:.3f}",
                        "times faster than reward-bench": f"{common.ratio(peer.seconds, within[name].seconds):.2f}",
                        "largest difference of rewards": f"{worst[name]:.1e}",
                    }
                    for name in CONTESTANTS
                ],
                [
                    f"{len(texts)} texts of {real:,} tokens, {arguments.tokens_per_batch} a batch, {arguments.rounds} rounds."
                ],
            ),
            common.Table(
                [
                    {
                        "new process": name,
                        "seconds": common.spread(alone[name].seconds),
                        "CPU seconds": common.spread(alone[name].cpu),
                        "times faster than reward-bench": f"{common.ratio(by_process_peer.seconds, alone[name].seconds):.2f}",
                        "fewer CPU seconds": f"{common.ratio(by_process_peer.cpu, alone[name].cpu):.2f}",
                    }
                    for name in alone
                ],
                [f"Largest difference of rewards {alone_worst:.1e}."],
            ),
        ],
        record=arguments.record,
    )
    return None


def _within(arguments: argparse.Namespace, texts: Texts) -> tuple[dict[str, common.Measured], dict[str, float]]:
    """What each contestant took with a loaded model, and its largest difference of rewards to reward-bench's."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from rmtransfer.models import reward
    from rmtransfer.models.device import pack_for_cpu

    torch.set_num_threads(arguments.threads)
    stock, padded = (
        AutoModelForSequenceClassification.from_pretrained(arguments.model, dtype=torch.float32).eval()
        for _ in range(2)
    )
    pack_for_cpu(padded.base_model, torch.device("cpu"))
    ours = reward.load_reward_model(arguments.model, torch.device("cpu"))
    budget = arguments.tokens_per_batch

    def packs() -> list[float]:
        torch.set_num_threads(1)  # as a study's job that has the cores to itself: a pack on each
        found, _ = reward.score(ours, texts, budget, workers=lambda: arguments.threads)
        torch.set_num_threads(arguments.threads)
        return found.tolist()

    runs = {
        "packs": packs,
        "sorted": lambda: rewards_sorted(padded, texts, budget),
        "reward-bench": lambda: rewards_in_file_order(stock, texts),
    }
    (
        reward.score(ours, texts[:2], budget),
        rewards_sorted(padded, texts[:2], budget),
        rewards_in_file_order(stock, texts[:2]),
    )
    within = common.in_turns(runs, arguments.rounds)
    expected = torch.tensor(within["reward-bench"].result)
    return within, {n: (torch.tensor(m.result) - expected).abs().max().item() for n, m in within.items()}


def _alone(arguments: argparse.Namespace) -> tuple[dict[str, common.Measured], float]:
    """The same of processes of their own, and the largest difference between their rewards."""
    import pyarrow.parquet as pq

    given = [arguments.model, arguments.texts, "--pairs", arguments.alone_pairs, "--threads", arguments.threads]
    given += ["--tokens-per-batch", arguments.tokens_per_batch]
    alone: dict[str, common.Measured] = {}
    rewards: dict[str, list[float]] = {}
    for number in range(arguments.rounds):
        for name in ("packs", "reward-bench")[:: -1 if number % 2 else 1]:
            with tempfile.TemporaryDirectory() as folder:
                output = Path(folder) / "en.parquet"
                done = common.in_new_process(
                    "scoring_speed", [*given, "--alone", name, "--output", output], arguments.threads
                )
                if name == "packs":
                    table = pq.read_table(output)
                    chosen, rejected = (table[f"reward_{side}"].to_pylist() for side in ("chosen", "rejected"))
                    rewards[name] = [value for pair in zip(chosen, rejected, strict=True) for value in pair]
                else:
                    rewards[name] = done.said["rewards"]
            measured = alone.setdefault(name, common.Measured([], [], None))
            measured.seconds.append(done.seconds)
            measured.cpu.append(done.cpu)
    return alone, max(abs(a - b) for a, b in zip(rewards["packs"], rewards["reward-bench"], strict=True))


def _alone_as_a_job(arguments: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> None:
    import torch

    from rmtransfer.kit.cores import Cores
    from rmtransfer.scoring.job import Outputs, score

    torch.set_num_threads(1)
    score(
        {"kind": "trained", "path": str(arguments.model)},
        "benchmark",
        {"en": rows},
        Outputs(scores={"en": arguments.output}),
        arguments.output.parent / "cache",
        tokens_per_batch=arguments.tokens_per_batch,
        requests_at_once=1,
        device="cpu",
        cores=Cores(arguments.output.parent / "computing", 1, arguments.threads),
    )
    common.say()


def _alone_as_reward_bench(arguments: argparse.Namespace, texts: Texts) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(arguments.model, dtype=torch.float32).eval()
    common.say(rewards=rewards_in_file_order(model, texts))


if __name__ == "__main__":
    main()
