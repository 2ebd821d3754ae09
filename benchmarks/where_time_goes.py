"""Where a finished study's time went, and the least arithmetic that it needs.

    PYTHONPATH=workflow .venv/bin/python -m benchmarks.where_time_goes results/sample [--configfile config.yaml]

The floor is a count of floating-point operations (benchmarks/flops.py): of what this version computes, and of what stock
implementations would for the same tables: RewardTrainer at its defaults with the same frozen parameters (8 pairs in random
order, padded, activations computed twice), reward-bench's batches (8 texts in file order, padded), and generate, one answer at
a time. Reward models of others are not counted, nor is translation by a model. The seconds are those of the jobs' logs,
whichever version wrote them.
"""

import argparse
import os
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmarks import common, flops
from benchmarks.flops import Shape, Work
from benchmarks.scoring_speed import file_order

_TOOK = re.compile(r" took ([\d.]+) s, ([\d.]+) CPU s, (\d+) MB at most")
# What a progress bar reports when it reaches its total: seconds of real work, apart from imports and loading.
_WORK = re.compile(r"^(\S+) \[.*\] (?:training|scoring \S+|sampling \S+): ([\d,]+)/\2 \w+ \(.*?, ([\d.]+) s\)", re.M)
_TRAINER_BATCH = 8  # RewardTrainer's default
Texts = Sequence[Sequence[int]]
EncodedAnswer = tuple[int, tuple[int, ...]]  # tokens of the prompt; of prompt and answer


class Stage(NamedTuple):
    """What a stage computes in all of its jobs.

    Attributes:
        rules: whose logs hold its seconds.
        real: tokens of all texts in all jobs, as a stock implementation without padding would compute them.
        computed: tokens that this version computes in them, frozen blocks aside.
        ours: floating-point operations; so is ``stock``.
    """

    name: str
    rules: tuple[str, ...]
    real: int
    computed: int
    ours: int
    stock: int

    def __add__(self, other: "Stage") -> "Stage":  # type: ignore[override]  # of another base, say
        return self._replace(
            real=self.real + other.real,
            computed=self.computed + other.computed,
            ours=self.ours + other.ours,
            stock=self.stock + other.stock,
        )


def scoring_stage(
    name: str, rules: tuple[str, ...], shape: Shape, files: Iterable[Texts], models: int, frozen: int, budget: int
) -> Stage:
    """Scoring the texts of each file by some models, which share their frozen blocks.

    Args:
        files: texts as each is read, equal ones included.
        frozen: blocks whose states are computed once a text, for all models.
    """
    from rmtransfer.models.packing import group_texts

    stage = Stage(name, rules, 0, 0, 0, 0)
    for texts in files:
        ours = flops.of_groups(group_texts(list(dict.fromkeys(map(tuple, texts))), budget))
        stage += Stage(
            name,
            rules,
            models * sum(map(len, texts)),
            models * ours.tokens,
            shape.forward(ours, 0, frozen) + models * shape.forward(ours, frozen),
            models * shape.forward(flops.of_padded(file_order(texts))),
        )
    return stage


def base_stage(name: str, shape: Shape, files: Iterable[Texts], frozen: int, budget: int) -> Stage:
    """A base model on texts of which its reward models compute the frozen blocks' states."""
    texts = [*files]
    whole, trunk = (scoring_stage(name, ("score",), shape, texts, models, frozen, budget) for models in (1, 0))
    return whole._replace(ours=whole.ours - trunk.ours)


def likelihood_stage(shape: Shape, files: Iterable[Sequence[EncodedAnswer]], frozen: int, budget: int) -> Stage:
    """Likelihoods of answers: of this version each token of an answer costs a row of logits, of a stock one each token."""
    answers = [*files]
    texts = [[ids for _, ids in these] for these in answers]
    stage = base_stage("likelihoods under the base", shape, texts, frozen, budget)
    predicted = sum(len(ids) - start for these in answers for start, ids in set(these))
    padded = sum(flops.of_padded(file_order(these)).tokens for these in texts)
    return stage._replace(
        ours=stage.ours + 2 * shape.projection * predicted, stock=stage.stock + 2 * shape.projection * padded
    )


def training_stage(shape: Shape, sets: Iterable[Sequence[Texts]], recipe: Any, seeds: Sequence[int]) -> Stage:
    """Training one model on each set of pairs, with each seed."""
    import torch

    from rmtransfer.models.packing import group_of

    frozen, embeddings = recipe.frozen_layers, not recipe.freeze_embeddings
    name, rules = "training", ("train_reward_model",)
    stage = Stage(name, rules, 0, 0, 0, 0)
    once: set[Any] = set()
    for pairs in sets:
        groups = [group_of(pair) for pair in pairs]
        work = flops.of_groups(groups)
        trunk = flops.of_groups(group for group in groups if group not in once)
        once.update(groups)
        passes = recipe.epochs * len(seeds)
        ours = passes * shape.training(work, frozen, embeddings=embeddings)
        if not embeddings:
            ours += shape.forward(trunk, 0, frozen) - passes * shape.forward(work, 0, frozen)
        stock = 0
        for seed in seeds:
            order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed)).tolist()
            batches = [order[i : i + _TRAINER_BATCH] for i in range(0, len(order), _TRAINER_BATCH)]
            padded = flops.of_padded([text for i in batch for text in pairs[i]] for batch in batches)
            stock += recipe.epochs * shape.training(padded, frozen, embeddings=embeddings, recomputed=True)
        real = sum(len(text) for pair in pairs for text in pair)
        stage += Stage(name, rules, passes * real, passes * work.tokens, ours, stock)
    return stage


def sampling_stage(shape: Shape, files: Iterable[Texts], samples: int, steps: int, budget: int) -> Stage:
    """Sampling answers to the prompts of each file, all of them as long as they may become."""
    from rmtransfer.models.decoding import decoding_batches

    name, rules = "sampling answers", ("sample_answers", "answer_constraints")
    stage = Stage(name, rules, 0, 0, 0, 0)
    for prompts in files:
        asked = [tuple(prompt) for prompt in prompts for _ in range(samples)]
        together = Work()
        for batch in decoding_batches(asked, [steps] * len(asked), budget):
            length = max(len(asked[i]) for i in batch)
            # Each prompt is read once but for its last token, which starts the decoding of every answer to it.
            together += flops.of_padded([[range(length - 1)] * len({asked[i] for i in batch})])
            decoding = flops.of_decoding(length - 1, steps)
            together += Work(len(batch) * decoding.tokens, len(batch) * decoding.looks)
        alone = Work()
        for prompt in asked:
            alone += flops.of_padded([[prompt]]) + flops.of_decoding(len(prompt), steps - 1)
        projected = 2 * shape.projection * steps * len(asked)
        stage += Stage(
            name,
            rules,
            alone.tokens,
            together.tokens,
            shape.forward(together) + projected,
            shape.forward(alone) + projected,
        )
    return stage


def stages_of(study: Any) -> list[Stage]:
    """Every stage of a finished study that computes with its base models; the working directory is the one it ran in."""
    from transformers import AutoConfig

    from rmtransfer.models import chat
    from rmtransfer.study.aligning import Aligning
    from rmtransfer.study.names import CONSTRAINTS, HELD_OUT, INSTRUCTIONS
    from rmtransfer.study.study import PREFERENCES
    from rmtransfer.texts.corpus import load_rows, load_selected
    from rmtransfer.texts.mixture import mix

    config, at = study.config, study.at
    aligning = Aligning(study)
    recipe, budget, alignment = config.training, config.resources.tokens_per_batch, config.alignment

    def rows_of(part: str, language: str) -> list[dict[str, Any]]:
        ids = Path(at.ids.fill(part=part))
        return load_selected(Path(at.rows(part, language)), ids if ids.is_file() else None)

    stages: dict[str, Stage] = {}
    for base in study.bases:
        folder = Path(at.base_model.fill(base=base))
        shape = flops.shape_of(AutoConfig.from_pretrained(folder))
        tokenizer = chat.load_tokenizer(folder)
        # Only frozen embeddings leave the first blocks' states as the base computes them.
        frozen = recipe.frozen_layers if recipe.freeze_embeddings else 0
        models = len(study.training_sets) * len(config.seeds)

        def pair(row: dict[str, Any], tokenizer: Any = tokenizer) -> Texts:
            return [chat.encode_answer(tokenizer, row["prompt"], row[side]) for side in ("chosen", "rejected")]

        preferences = {language: rows_of(PREFERENCES, language) for language in study.languages}
        sets = [
            [pair(row) for row in mix({k: preferences[k] for k in these.shares}, these.shares, these.pairs)]
            for these in study.training_sets.values()
        ]
        found = [training_stage(shape, sets, recipe, config.seeds)]
        scored = {
            (part, language): [text for row in rows_of(part, language) for text in pair(row)]
            for part in study.benchmarks
            for language in study.languages
        }
        found.append(
            scoring_stage("scoring the benchmarks", ("score",), shape, scored.values(), models, frozen, budget)
        )
        trained_on = {
            (PREFERENCES, k): [text for row in these for text in pair(row)] for k, these in preferences.items()
        }
        embedded = [(scored | trained_on)[part, k] for part in study.embedded(base) for k in study.languages]
        found.append(base_stage("hidden states of the base", shape, embedded, frozen, budget))
        for options in config.reward_models.values():
            if options.kind == "likelihood" and options.path == base:
                answered = [
                    [
                        (len(chat.encode(tokenizer, row["prompt"], add_generation_prompt=True)), tuple(text))
                        for row in rows_of(part, language)
                        for text in pair(row)
                    ]
                    for part, language in scored
                ]
                found.append(likelihood_stage(shape, answered, frozen, budget))
        for policy in aligning.policies:
            if aligning.folder(policy) != str(folder):
                continue
            for writer in [policy, *aligning.aligned(policy)]:
                for part in aligning.parts_of(writer):
                    prompts = [
                        [
                            chat.encode(tokenizer, row["prompt"], add_generation_prompt=True)
                            for row in (load_rows(Path(rows)) if part == CONSTRAINTS else rows_of(part, language))
                        ]
                        for rows, language in zip(aligning.rows(part), aligning.languages_of(part), strict=True)
                    ]
                    samples = aligning.samples(writer, part)
                    found.append(sampling_stage(shape, prompts, samples, alignment.max_new_tokens, budget))
            selecting = {m for s in aligning.selectors(policy) for m in aligning.selecting_models(s).values()}
            for part, scorers in ((INSTRUCTIONS, models), (HELD_OUT, len(selecting) + len(aligning.panel(base)))):
                if part not in aligning.parts_of(policy):
                    continue
                answers = [
                    [chat.encode_answer(tokenizer, row["prompt"], row["answer"]) for row in load_rows(Path(path))]
                    for path in aligning.answers(policy, part)
                ]
                rules = ("score_answers", "judge_comparisons")
                found.append(scoring_stage("scoring the answers", rules, shape, answers, scorers, frozen, budget))
        for stage in found:
            stages[stage.name] = stages[stage.name] + stage if stage.name in stages else stage
    return list(stages.values())


def times_of(logs: Path) -> pd.DataFrame:
    """One line per rule: jobs, seconds, seconds of work, of starting up, of the rest, and memory; the longest first."""
    lines = []
    for path in sorted(logs.rglob("*.log")):
        log = path.read_text(encoding="utf-8")
        took = _TOOK.search(log)
        if took is None:  # killed, or still running
            continue
        seconds, cpu, memory = map(float, took.groups())
        done = _WORK.findall(log)
        work = sum(float(seconds) for _, _, seconds in done)
        start = 0.0
        if done:
            at, _, first = done[0]
            start = (_clock(at) - _clock(log[:8])).seconds - float(first)
        rule = path.relative_to(logs).parts[0].removesuffix(".log")
        lines.append((rule, 1, seconds, cpu, work, start, memory))
    frame = pd.DataFrame(lines, columns=["rule", "jobs", "seconds", "CPU s", "work", "start", "max_rss_MB"])
    columns = ("jobs", "seconds", "CPU s", "work", "start")
    table = frame.groupby("rule", sort=False).agg(dict.fromkeys(columns, "sum") | {"max_rss_MB": "max"})
    table.insert(5, "other", table["seconds"] - table["work"] - table["start"])
    table = table.sort_values("seconds", ascending=False)
    table.loc["total"] = table.sum()
    table.loc["total", "max_rss_MB"] = frame["max_rss_MB"].max()
    return table


def product_rates(rows: int, inner: int, outer: int) -> dict[str, float]:
    """GFLOP/s of fp32 matrix products on one core, by library, best of some."""
    import time

    import torch
    from torch.utils.mkldnn import MkldnnLinear

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    layer = torch.nn.Linear(inner, outer, bias=False)
    x = torch.randn(rows, inner)
    rates = {}
    with torch.inference_mode():
        for name, product in {"PyTorch's default": layer, "oneDNN": MkldnnLinear(layer, torch.float)}.items():
            best = float("inf")
            for _ in range(20):
                began = time.perf_counter()
                product(x)
                best = min(best, time.perf_counter() - began)
            rates[name] = 2 * rows * inner * outer / best / 1e9
    torch.set_num_threads(before)
    return rates


def main() -> None:
    """Print the floor, the rates and the seconds."""
    parser = common.parser_of(__doc__, "where_time_goes")
    parser.add_argument("study", type=Path, help="its folder in results/")
    parser.add_argument("--configfile", type=Path, help="default: config.yaml beside results/")
    parser.add_argument("--seeds", type=int, help="count as if it had so many")
    arguments = parser.parse_args()
    folder = arguments.study.resolve()
    study = _study(folder, arguments)
    stages = stages_of(study)
    times = times_of(folder / "logs")
    total = sum(stages[1:], stages[0])._replace(name="total", rules=())
    floor = [
        {
            "stage": stage.name,
            "real tokens": f"{stage.real:,}",
            "computed": f"{stage.computed:,}",
            "for each real one": f"{stage.computed / stage.real:.3f}",
            "GFLOP": f"{stage.ours / 1e9:,.0f}",
            "GFLOP, stock": f"{stage.stock / 1e9:,.0f}",
            "times fewer": f"{stage.stock / stage.ours:.1f}",
        }
        for stage in [*stages, total]
    ]
    rates = []
    for rules in dict.fromkeys(stage.rules for stage in stages):
        work = sum(times.loc[rule, "work"] for rule in rules if rule in times.index)
        gflop = sum(stage.ours for stage in stages if stage.rules == rules) / 1e9
        rates.append(
            {
                "jobs": ", ".join(rules),
                "GFLOP": f"{gflop:,.0f}",
                "seconds of work": f"{work:,.0f}",
                "GFLOP/s": f"{gflop / work:,.1f}" if work else "-",
            }
        )
    hidden = study_hidden(study)
    products = product_rates(study.config.resources.tokens_per_batch, *hidden)
    shown = times.round(0).astype("Int64").reset_index()
    common.publish(
        "where_time_goes",
        common.machine(arguments.threads),
        f"python -m benchmarks.where_time_goes results/{folder.name}",
        [
            common.Gain(
                f"{stage.name}, floating-point operations",
                "stock implementations",
                f"{stage.stock / stage.ours:.1f} times fewer",
                f"{stage.computed / stage.real:.2f}",
            )
            for stage in [*stages, total]
        ],
        [
            common.Table(floor),
            common.Table(
                rates,
                [
                    "Operations of this version over the logs' seconds. One core's fp32 product of "
                    f"{study.config.resources.tokens_per_batch} x {hidden[0]} and {hidden[0]} x {hidden[1]}: "
                    + ", ".join(f"{rate:,.0f} GFLOP/s by {name}" for name, rate in products.items())
                    + "."
                ],
            ),
            common.Table(
                [{name: str(value) for name, value in row.items()} for row in shown.to_dict("records")],
                [
                    "Seconds of jobs, which run side by side. work: training, scoring and sampling; start: imports and "
                    "loads before the first work; other: files, loads in between, and all of the jobs that report no "
                    "progress."
                ],
            ),
        ],
        record=arguments.record,
    )


def study_hidden(study: Any) -> tuple[int, int]:
    """Hidden and intermediate size of the first base model."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(study.at.base_model.fill(base=study.bases[0])).get_text_config()
    return config.hidden_size, config.intermediate_size


def _study(folder: Path, arguments: argparse.Namespace) -> Any:
    import yaml

    from rmtransfer.study.config import load_config
    from rmtransfer.study.study import Study

    root = folder.parent.parent
    given = yaml.safe_load((arguments.configfile or root / "config.yaml").resolve().read_text(encoding="utf-8"))
    if arguments.seeds:
        given["seeds"] = list(range(arguments.seeds))
    os.chdir(root)
    return Study(load_config({**given, "study": folder.name}, root))


def _clock(text: str) -> datetime:
    return datetime.strptime(text, "%H:%M:%S")


if __name__ == "__main__":
    main()
