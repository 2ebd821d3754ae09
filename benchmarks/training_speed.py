"""How fast a reward model is trained in fp32 on a CPU, against TRL's RewardTrainer.

The same base, pairs, trainable parameters (the recipe's frozen blocks and embeddings are frozen for all), effective batch,
learning rates and seed, each run in a process of its own:
  ours       what the study runs: a step's pairs in packs, frozen blocks computed once a text, oneDNN products
  defaults   RewardTrainer with the batch in one pass, random order, gradient checkpointing: all as it comes, but for fp32
  the rest   its better settings: no checkpointing, passes of fewer pairs, or batches of like length out of all pairs of the
             file, which need remove_unused_columns=False and are other pairs in another order, so that rates are compared

    PYTHONPATH=workflow .venv/bin/python -m benchmarks.training_speed BASE_FOLDER PAIRS.jsonl

The order of ours and of all random settings is the same, and so must be the losses.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import common


class Setting(NamedTuple):
    """How RewardTrainer is set up."""

    per_pass: int
    grouped: bool = False
    checkpointing: bool = False


DEFAULTS = "defaults"
OURS = "ours"
SETTINGS = {
    DEFAULTS: Setting(8, checkpointing=True),
    "no checkpointing": Setting(8),
    "2 pairs a pass": Setting(2),
    "1 pair a pass": Setting(1),
    "grouped by length": Setting(8, grouped=True),
    "grouped, 2 pairs a pass": Setting(2, grouped=True),
}


def main() -> None:
    """Print seconds, memory and losses."""
    parser = common.parser_of(__doc__, "training_speed")
    parser.add_argument("base", type=Path, help="folder of a base model that a study has prepared")
    parser.add_argument("pairs", type=Path, help="JSONL of id, prompt, chosen, rejected")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--pairs-per-step", type=int, default=8)
    parser.add_argument("--frozen-layers", type=int, default=9)
    parser.add_argument("--train-embeddings", action="store_true")
    parser.add_argument("--max-length", type=int, default=512, help="longer pairs are left out")
    parser.add_argument("--tokens-per-batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=2, help="of ours, the defaults and the best settings")
    parser.add_argument("--only", nargs="+", choices=[OURS, *SETTINGS], help="these alone")
    parser.add_argument("--alone", choices=[OURS, *SETTINGS], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        return _alone(arguments)
    names = arguments.only or [OURS, *SETTINGS]
    runs: dict[str, list[common.Finished]] = {name: [] for name in names}
    for name in names:
        runs[name].append(_run(name, arguments))
    peers = [name for name in names if name not in (OURS, DEFAULTS)]
    best = max(peers, key=lambda name: _rate(runs[name][0])) if peers else DEFAULTS
    again = [name for name in (best, DEFAULTS, OURS) if name in runs]
    for number in range(1, arguments.rounds):
        for name in again[:: 1 if number % 2 else -1]:
            runs[name].append(_run(name, arguments))

    expected = runs[DEFAULTS if DEFAULTS in runs else names[0]][0].said
    table = []
    for name in names:
        said = runs[name][0].said
        grouped = name in SETTINGS and SETTINGS[name].grouped
        differences = [abs(a - b) for a, b in zip(said["losses"], expected["losses"], strict=True)]
        table.append(
            {
                "": name,
                "seconds": common.spread([run.said["seconds"] for run in runs[name]]),
                "CPU seconds": common.spread([run.said["cpu"] for run in runs[name]]),
                "real tokens/s": f"{max(map(_rate, runs[name])):,.0f}",
                "computed for each real one": f"{_padding(runs[name][0]):.2f}",
                "peak memory, GB": f"{max(run.said['peak'] for run in runs[name]):.2f}",
                "largest difference of losses": "other order" if grouped else f"{max(differences):.1e}",
                "first and last loss": f"{said['losses'][0]:.4f}, {said['losses'][-1]:.4f}",
            }
        )
    gains = [
        common.Gain(
            f"training, {arguments.steps} steps of {arguments.pairs_per_step} pairs",
            f"RewardTrainer, {peer}",
            f"{_ratio(runs, peer, 'seconds'):.1f} times faster ({_ratio(runs, peer, 'cpu'):.1f} in CPU seconds)",
            f"{_padding(runs[OURS][0]):.2f}, {_padding(runs[peer][0]):.2f}",
        )
        for peer in dict.fromkeys((DEFAULTS, best))
        if peer in runs and OURS in runs
    ]
    common.publish(
        "training_speed",
        common.machine(arguments.threads),
        f"python -m benchmarks.training_speed BASE PAIRS --steps {arguments.steps}",
        gains or [common.Gain("training", "nothing", "not compared")],
        [
            common.Table(
                table,
                [
                    f"{arguments.steps} steps of {arguments.pairs_per_step} pairs, {expected['tokens']:,} tokens, "
                    f"{expected['trainable']:,} trainable parameters, {arguments.frozen_layers} blocks frozen. Seconds from "
                    "the first step to the last; peak memory of the whole process up to there."
                ],
            )
        ],
        record=arguments.record,
    )
    return None


def _run(name: str, arguments: argparse.Namespace) -> common.Finished:
    given: list[object] = [arguments.base, arguments.pairs, "--alone", name]
    for option in ("steps", "pairs_per_step", "frozen_layers", "max_length", "tokens_per_batch", "threads"):
        given += [f"--{option.replace('_', '-')}", getattr(arguments, option)]
    if arguments.train_embeddings:
        given.append("--train-embeddings")
    done = common.in_new_process("training_speed", given, arguments.threads)
    print(f"{name}: {done.said['seconds']:.1f} s, {done.said['peak']:.2f} GB", flush=True)
    return done


def _rate(run: common.Finished, what: str = "seconds") -> float:
    return run.said["tokens"] / run.said[what]


def _padding(run: common.Finished) -> float:
    return run.said["computed"] / run.said["tokens"]


def _ratio(runs: dict[str, list[common.Finished]], peer: str, what: str) -> float:
    ours, theirs = ([_rate(run, what) for run in runs[name]] for name in (OURS, peer))
    both = min(len(ours), len(theirs))
    return common.ratio(ours[:both], theirs[:both])


def _alone(arguments: argparse.Namespace) -> None:
    from transformers import Trainer

    from rmtransfer.models.packing import group_of

    recipe = {
        "learning_rate": 5e-5,
        "epochs": 1,
        "pairs_per_step": arguments.pairs_per_step,
        "warmup_ratio": 0.1,
        "max_length": arguments.max_length,
        "freeze_embeddings": not arguments.train_embeddings,
        "frozen_layers": arguments.frozen_layers,
        "optimizer": "adamw",
        "head": "normal",
        "evaluations": 2,
    }
    rows, pairs = _short_enough(arguments)
    used = arguments.steps * arguments.pairs_per_step
    seen: dict[str, Any] = {}
    stock_train = Trainer.train

    def train(self: Any, *args: Any, **kwargs: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = stock_train(self, *args, **kwargs)
        seen.update(
            seconds=time.perf_counter() - wall,
            cpu=time.process_time() - cpu,
            peak=common.peak_memory(),
            losses=[entry["loss"] for entry in self.state.log_history if "loss" in entry],
            trainable=sum(p.numel() for p in self.model.parameters() if p.requires_grad),
        )
        return result

    Trainer.train = train  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        if arguments.alone == OURS:
            train_ours(arguments.base, rows[:used], recipe, Path(folder), arguments.tokens_per_batch)
            seen["tokens"] = sum(len(ids) for pair in pairs[:used] for ids in pair.values())
            seen["computed"] = sum(group_of(list(pair.values())).tokens for pair in pairs[:used])
        else:
            setting = SETTINGS[arguments.alone]
            _train_stock(arguments, pairs if setting.grouped else pairs[:used], recipe, Path(folder), setting, seen)
    assert len(seen["losses"]) == arguments.steps
    common.say(**seen)


def _short_enough(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, list[int]]]]:
    """The pairs that no length excludes, as rows and as token ids."""
    from rmtransfer.models import chat
    from rmtransfer.models.training import encode_pairs

    tokenizer = chat.load_tokenizer(arguments.base)
    rows = common.pairs_of(arguments.pairs)
    pairs = encode_pairs(tokenizer, rows, 1 << 30)
    kept = [
        (row, pair)
        for row, pair in zip(rows, pairs, strict=True)
        if max(map(len, pair.values())) <= arguments.max_length
    ]
    if len(kept) < arguments.steps * arguments.pairs_per_step:
        raise SystemExit(f"{arguments.pairs}: {len(kept)} pairs are too few for {arguments.steps} steps")
    return [row for row, _ in kept], [pair for _, pair in kept]


def train_ours(
    base: Path,
    rows: Sequence[dict[str, Any]],
    recipe: dict[str, Any],
    folder: Path,
    tokens_per_batch: int,
    device: str = "cpu",
    gradient_checkpointing: bool | str = "auto",
) -> None:
    """Train as a job of the study does, from its start to the manifest; states of frozen blocks are kept on disk."""
    from rmtransfer.models.training import train_reward_model

    train_reward_model(
        base,
        rows,
        recipe,
        0,
        folder / "model",
        folder / "work",
        card={"base_model": base.name, "train_language": "en", "languages": "en"},
        tokens_per_batch=tokens_per_batch,
        checkpoint_minutes=60,
        device=device,
        trunk_store=folder / "trunk",
        trunk_gigabytes=4,
        processes=1,
        gradient_checkpointing=gradient_checkpointing,
    )


def _train_stock(
    arguments: argparse.Namespace,
    pairs: Sequence[dict[str, list[int]]],
    recipe: dict[str, Any],
    folder: Path,
    setting: Setting,
    seen: dict[str, Any],
) -> None:
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    from rmtransfer.models import chat, reward
    from rmtransfer.models.fit import freeze

    model = reward.build_reward_model(arguments.base, 0)
    freeze(model, recipe["frozen_layers"], recipe["freeze_embeddings"])
    per_pass = min(setting.per_pass, recipe["pairs_per_step"])
    settings: dict[str, Any] = {}
    rows: list[dict[str, Any]] = [dict(pair) for pair in pairs]
    if setting.grouped:
        settings = {"train_sampling_strategy": "group_by_length", "remove_unused_columns": False}
        rows = [{**pair, "length": max(map(len, pair.values()))} for pair in pairs]
    config = RewardConfig(
        output_dir=str(folder / "stock"),
        learning_rate=recipe["learning_rate"],
        max_steps=arguments.steps,
        per_device_train_batch_size=per_pass,
        gradient_accumulation_steps=recipe["pairs_per_step"] // per_pass,
        warmup_steps=recipe["warmup_ratio"],
        lr_scheduler_type="cosine",
        seed=0,
        max_length=None,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=setting.checkpointing,
        dataloader_pin_memory=False,
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        **settings,
    )
    trainer = RewardTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=chat.load_tokenizer(arguments.base),
    )
    padded: Any = trainer.data_collator

    def counted(examples: Any) -> Any:
        batch = padded(examples)
        seen["tokens"] = seen.get("tokens", 0) + batch["attention_mask"].sum().item()
        seen["computed"] = seen.get("computed", 0) + batch["input_ids"].numel()
        return batch

    trainer.data_collator = counted
    trainer.train()


if __name__ == "__main__":
    main()
