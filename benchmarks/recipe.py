"""Which start of the score head, how many frozen blocks and which rate suit a small study, on held-out training pairs.

    PYTHONPATH=workflow .venv/bin/python -m benchmarks.recipe results/sample [--large PAIRS.jsonl] [--quick] [--record]

Three experiments, the first of which decides:
  held out    reward models of three languages on three quarters of the training pairs, judged by the fourth quarter, which is
              the same in all languages; each quarter in turn
  benchmark   a few recipes on all training pairs of all languages, as a study trains them, judged by its leading benchmark:
              what another seed changes in its cells and in its two headlines
  large       the heads on other pairs, with few and with more of them; --large names a JSONL file

Results go to --raw line by line, and what is there is not computed again. --record puts the tables into docs/recipe.md.
Training is the study's own, but for speed: what the frozen blocks make of all texts stays in memory, and the last block, of
which only each text's last token is wanted, computes nothing else. The first run compares both with the project's own path.
"""

import argparse
import hashlib
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import logsigmoid, scaled_dot_product_attention

from benchmarks import common
from rmtransfer.models import chat, reward
from rmtransfer.models.attention import prefer_packs
from rmtransfer.models.device import train_with_onednn
from rmtransfer.models.packing import Batch, Group, group_of
from rmtransfer.models.probe import fit_probe
from rmtransfer.models.trunk import _part
from rmtransfer.texts.corpus import Row, load_selected

DOCUMENT = common.ROOT / "docs/recipe.md"
PAIRS_PER_STEP, WARMUP = 8, 0.1  # the study's
FOLDS = 4
PAIRS_PER_PASS = 12  # when judging
LARGE_HELD_OUT, LARGE_SIZES, LARGE_TOKENS = 84, (24, 96, 200), 300
_LISTED = 5  # values; of more, mean and spread alone
_MARKS = "<!-- {}: begin -->", "<!-- {}: end -->"


class Recipe(NamedTuple):
    """How a reward model is trained.

    Attributes:
        head: how the score head starts, as in the study's ``training.head``: normal (drawn), zero, or probe (fitted to the
            base model's states).
        head_rate: the head's learning rate, in learning rates of the body.
        frozen: blocks that stay as they are.
    """

    head: str = "normal"
    head_rate: float = 1.0
    frozen: int = 9
    rate: float = 5e-5
    epochs: int = 1


CHEAPEST = Recipe("probe", 1, 17)
_HEADS = [(head, rate) for head in ("normal", "zero") for rate in (1, 10, 100)] + [("probe", 1)]
# Recipes and their seeds, which are fewer where a run takes longer. What comes first is known first.
HELD_OUT = {
    **{Recipe(*head, frozen): 2 for frozen in (18, 17) for head in [*_HEADS, ("probe", 10)]},
    **{Recipe("probe", 1, 17, rate): 1 for rate in (1e-4, 2e-4, 5e-4)},
    Recipe("probe", 1, 17, epochs=2): 1,
    Recipe("normal", 1, 17, 5e-4): 1,
    Recipe("zero", 100, 17, 2e-4): 1,
    Recipe("probe", 1, 16): 2,
    Recipe("probe", 1, 16, 1e-4): 1,
    **{Recipe(*head, 16): 1 for head in (("normal", 1), ("zero", 100))},
    Recipe("probe", 1, 15): 1,
    Recipe("probe", 1, 14): 1,
}
FINALISTS = [Recipe("probe", 1, 17), Recipe("probe", 1, 16), Recipe("normal", 1, 17), Recipe("zero", 100, 17)]
BENCHMARK_SEEDS = 3
PROBE_ALONE = Recipe("probe", 1, 18)
SAMPLES = 40
LARGE = [Recipe(*head, 18) for head in (("normal", 1), ("zero", 10), ("zero", 100), ("probe", 1))]
LARGE_SPLITS = 6


class Pairs:
    """Preference pairs of one file, with what the frozen blocks make of them.

    Attributes:
        subsets: what kind of pair each is.
        states: by the number of blocks, of each pair [tokens, hidden].
        ends: [pairs, 2, hidden], chosen and rejected after the last block, before the last norm.
        last: the same after it: the base model's last-token states.
    """

    def __init__(self, rows: Sequence[Row], groups: Sequence[Group]) -> None:
        self.ids = [row["id"] for row in rows]
        self.subsets = [row.get("subset") or "all" for row in rows]
        self.groups = groups
        self.states: dict[int, list[torch.Tensor]] = {}
        self.ends = self.last = torch.empty(0)


class Trained(NamedTuple):
    """A run: the head after and before it, losses by step, seconds."""

    head: torch.Tensor
    first_head: torch.Tensor
    losses: list[float]
    seconds: float


class UpperPart:
    """A base model of which only the upper blocks and a score head are trained, again and again.

    Args:
        base: folder of a base model.
        depths: numbers of frozen blocks that will be asked for.

    Raises:
        SystemExit: its blocks are not Gemma 3's, which :meth:`_last_block` is written for.
    """

    def __init__(self, base: Path, depths: Iterable[int]) -> None:
        self.tokenizer = chat.load_tokenizer(base)
        self.model = reward.build_reward_model(base, 0).eval().requires_grad_(False)
        if self.model.config.get_text_config().model_type != "gemma3_text":
            raise SystemExit(f"{base}: this benchmark knows the blocks of Gemma 3 only")
        prefer_packs(self.model)
        train_with_onednn(self.model.base_model, torch.device("cpu"))
        self.decoder: Any = self.model.base_model
        self.count = len(self.decoder.layers)
        self.depths = sorted({*depths, self.count - 1} - {self.count})
        self._start = {
            name: weights.clone() for name, weights in self.decoder.state_dict().items() if "embed_tokens" not in name
        }
        self._parts: dict[tuple[int, int], Any] = {}
        self._batches: dict[tuple[int, tuple[int, ...]], Batch] = {}

    @torch.no_grad()
    def read(self, rows: Sequence[Row], most_tokens: float = math.inf) -> Pairs:
        """Rows as pairs, but for longer ones, with their states after each depth."""
        self._reset()
        texts = [
            [chat.encode_answer(self.tokenizer, row["prompt"], row[side]) for side in ("chosen", "rejected")]
            for row in rows
        ]
        kept = [
            (row, group)
            for row, pair in zip(rows, texts, strict=True)
            if (group := group_of(pair)).tokens <= most_tokens
        ]
        pairs = Pairs([row for row, _ in kept], [group for _, group in kept])
        pairs.states = {depth: [] for depth in self.depths}
        ends = []
        for first in range(0, len(kept), PAIRS_PER_STEP):
            groups = pairs.groups[first : first + PAIRS_PER_STEP]
            batch, hidden, done = Batch(groups), None, 0
            for depth in self.depths:
                hidden = batch.hidden(self._part(done, depth), hidden)[None]
                # Clones, because parts of a tensor that was made without gradients keep all of it.
                pairs.states[depth] += [part.clone() for part in hidden[0].split([group.tokens for group in groups])]
                done = depth
            ends.append(self._last_block(batch, hidden))
        pairs.ends = torch.cat(ends).unflatten(0, (-1, 2))
        pairs.last = self.decoder.norm(pairs.ends)
        return pairs

    def states(self, pairs: Pairs, which: Sequence[int], frozen: int) -> torch.Tensor:
        """Last-token states [pairs, 2, hidden] of some of the pairs, as the model is now."""
        if frozen == self.count:
            return self.decoder.norm(pairs.ends[list(which)])
        key = (id(pairs), tuple(which))
        if key not in self._batches:
            self._batches[key] = Batch([pairs.groups[i] for i in which])
        batch, hidden = self._batches[key], torch.cat([pairs.states[frozen][i] for i in which])[None]
        if frozen < self.count - 1:
            hidden = batch.hidden(self._part(frozen, self.count - 1), hidden)[None]
        return self.decoder.norm(self._last_block(batch, hidden)).unflatten(0, (-1, 2))

    def train(self, recipe: Recipe, pairs: Pairs, which: Sequence[int], seed: int) -> Trained:
        """Train on some of the pairs, as the study's trainer does: order, schedule, clipping, optimiser."""
        began = time.process_time()
        self._reset()
        self._batches.clear()
        first = first_head(recipe.head, pairs.last[list(which)], seed)
        head = first.clone().requires_grad_(True)
        body = [
            weights.requires_grad_(True)
            for part in (*self.decoder.layers[recipe.frozen :], self.decoder.norm)
            for weights in part.parameters()
        ]
        optimizer = torch.optim.AdamW(
            [{"params": body, "lr": recipe.rate}, {"params": [head], "lr": recipe.rate * recipe.head_rate}],
            weight_decay=0.0,
            fused=True,
        )
        steps = math.ceil(len(which) / PAIRS_PER_STEP) * recipe.epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, steps))
        losses = []
        for step_pairs in steps_of(which, recipe.epochs, seed):
            rewards = self.states(pairs, step_pairs, recipe.frozen) @ head
            loss = -logsigmoid(rewards[:, 0] - rewards[:, 1]).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*body, head], 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        for weights in body:
            weights.requires_grad_(False)
        return Trained(head.detach(), first, losses, time.process_time() - began)

    @torch.no_grad()
    def margins(self, recipe: Recipe, head: torch.Tensor, pairs: Pairs, which: Sequence[int]) -> list[float]:
        """r(chosen) - r(rejected) of some of the pairs."""
        passes = [which[i : i + PAIRS_PER_PASS] for i in range(0, len(which), PAIRS_PER_PASS)]
        rewards = torch.cat([self.states(pairs, part, recipe.frozen) for part in passes]) @ head
        return (rewards[:, 0] - rewards[:, 1]).tolist()

    @torch.no_grad()
    def compare(self, pairs: Pairs) -> None:
        """Stop unless a few states are those of the project's own path."""
        self._reset()
        which = range(min(4, len(pairs.ids)))
        expected = reward.last_token_states(self.model, Batch([pairs.groups[i] for i in which]))
        for depth in self.depths:
            difference = (self.states(pairs, which, depth).flatten(0, 1) - expected).abs().max() / expected.abs().max()
            if difference > 1e-5:
                raise SystemExit(f"states after {depth} kept blocks differ from the project's by {difference:.1g}")

    def _part(self, first: int, end: int) -> Any:
        if (first, end) not in self._parts:
            self._parts[first, end] = _part(self.decoder, slice(first, end), {"norm": torch.nn.Identity()})
        return self._parts[first, end]

    @torch.no_grad()
    def _reset(self) -> None:
        weights = self.decoder.state_dict()
        for name, start in self._start.items():
            if not name.startswith("layers.") or int(name.split(".")[1]) >= self.depths[0]:
                weights[name].copy_(start)

    def _last_block(self, batch: Batch, hidden: Any) -> torch.Tensor:
        """What the last block makes of each text's last token, [texts, hidden]."""
        block = self.decoder.layers[-1]
        attention = block.self_attn
        width = attention.head_dim
        normed = block.input_layernorm(hidden)[0]
        queries = attention.q_norm(attention.q_proj(normed[batch.ends]).unflatten(-1, (-1, width)))
        keys = attention.k_norm(attention.k_proj(normed).unflatten(-1, (-1, width)))
        values = attention.v_proj(normed).unflatten(-1, (-1, width))
        kind = self.decoder.config.layer_types[-1]
        cos, sin = (turn[0, :, None] for turn in self.decoder.rotary_emb(hidden, batch.position_ids, kind))
        queries = queries * cos[batch.ends] + _half_turned(queries) * sin[batch.ends]
        keys = keys * cos + _half_turned(keys) * sin
        window = attention.sliding_window or 0  # 0: all, as places[-0:] says
        places = [place[-window:] for place in batch.places]
        index = torch.nn.utils.rnn.pad_sequence(places, batch_first=True)
        seen = torch.nn.utils.rnn.pad_sequence([torch.ones_like(place) for place in places], batch_first=True)
        found = scaled_dot_product_attention(
            queries[:, :, None],
            keys[index].transpose(1, 2),
            values[index].transpose(1, 2),
            attn_mask=seen.bool()[:, None, None],
            scale=attention.scaling,
            enable_gqa=True,
        )
        ends = hidden[0, batch.ends] + block.post_attention_layernorm(attention.o_proj(found.flatten(1)))
        return ends + block.post_feedforward_layernorm(block.mlp(block.pre_feedforward_layernorm(ends)))


def _half_turned(states: torch.Tensor) -> torch.Tensor:
    first, second = states.chunk(2, -1)
    return torch.cat([-second, first], -1)


def rate_at(step: int, steps: int) -> float:
    """The learning rate's factor: linear warm-up, then a cosine to zero, as in transformers."""
    warmup = math.ceil(WARMUP * steps)
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def steps_of(which: Sequence[int], epochs: int, seed: int) -> Iterator[list[int]]:
    """Pairs of each step, in the trainer's order."""
    for epoch in range(epochs):
        order = torch.randperm(len(which), generator=torch.Generator().manual_seed(seed + epoch)).tolist()
        for first in range(0, len(order), PAIRS_PER_STEP):
            yield [which[i] for i in order[first : first + PAIRS_PER_STEP]]


def first_head(kind: str, states: torch.Tensor, seed: int) -> torch.Tensor:
    """A score head's weights [hidden] before training.

    Args:
        states: of the training pairs, [pairs, 2, hidden], in the base model.
    """
    width = states.shape[-1]
    if kind == "normal":
        return torch.randn((1, width), generator=torch.Generator().manual_seed(seed))[0] / (width + 1) ** 0.5
    if kind == "zero":
        return torch.zeros(width)
    return torch.from_numpy(fit_probe(states[:, 0].numpy(), states[:, 1].numpy())).float()


def in_random_order(ids: Sequence[str], salt: str = "") -> list[int]:
    """Numbers of ids by a hash of each, so that they are the same for the same ids in any language."""
    return sorted(range(len(ids)), key=lambda i: hashlib.sha256(f"{salt}{ids[i]}".encode()).hexdigest())


class Raw:
    """Results so far, a line of JSON each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self.records = [json.loads(line) for line in lines]
        self._done = {self._key(record) for record in self.records}

    def __contains__(self, facts: Mapping[str, Any]) -> bool:
        return self._key(facts) in self._done

    def add(self, record: dict[str, Any]) -> None:
        """Write a result down."""
        self.records.append(record)
        self._done.add(self._key(record))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def of(self, what: str) -> dict[Recipe, list[dict[str, Any]]]:
        """Results of one experiment, by recipe."""
        found: dict[Recipe, list[dict[str, Any]]] = {}
        for record in self.records:
            if record["what"] == what:
                found.setdefault(Recipe(*record["recipe"]), []).append(record)
        return found

    @staticmethod
    def _key(facts: Mapping[str, Any]) -> tuple[Any, ...]:
        return (facts["what"], Recipe(*facts["recipe"]), facts["language"], facts["part"], facts["seed"])


def run(
    upper: UpperPart,
    raw: Raw,
    facts: dict[str, Any],
    pairs: Pairs,
    train: Sequence[int],
    judged: Mapping[str, tuple[Pairs, Sequence[int]]],
) -> None:
    """Train and judge, unless ``raw`` has it."""
    if facts in raw:
        return
    recipe = Recipe(*facts["recipe"])
    trained = upper.train(recipe, pairs, train, facts["seed"])
    some, held = next(iter(judged.values()))
    margins = {
        language: [round(margin, 5) for margin in upper.margins(recipe, trained.head, found, which)]
        for language, (found, which) in judged.items()
    }
    first = trained.first_head
    turned = torch.cosine_similarity(trained.head, first, 0).item() if first.any() else None
    raw.add(
        facts
        | {
            "ids": [some.ids[i] for i in held],
            "subsets": [some.subsets[i] for i in held],
            "margins": margins,
            "losses": [round(loss, 4) for loss in trained.losses],
            "cosine": turned,
            "norm": trained.head.norm().item(),
            "seconds": round(trained.seconds, 2),
        }
    )


def held_out(
    upper: UpperPart, raw: Raw, pairs: Mapping[str, Pairs], recipes: Mapping[Recipe, int], folds: int = FOLDS
) -> None:
    """Reward models of each language on all but one part of the pairs, judged by that part in each language."""
    order = in_random_order(next(iter(pairs.values())).ids)
    for recipe, seeds in recipes.items():
        for seed in range(seeds):
            for fold in range(folds):
                held = sorted(order[fold::folds])
                train = sorted(set(order) - set(held))
                judged = {language: (found, held) for language, found in pairs.items()}
                for language, found in pairs.items():
                    facts = {"what": "held out", "recipe": recipe, "language": language, "part": fold, "seed": seed}
                    run(upper, raw, facts, found, train, judged)
        report(f"held out: {recipe}")


def on_benchmark(
    upper: UpperPart,
    raw: Raw,
    pairs: Mapping[str, Pairs],
    benchmark: Mapping[str, Pairs],
    recipes: Iterable[Recipe],
    seeds: int,
) -> None:
    """Reward models of each language on all pairs, judged by a benchmark in each language."""
    for recipe in recipes:
        for seed in range(seeds):
            judged = {language: (found, range(len(found.ids))) for language, found in benchmark.items()}
            for language, found in pairs.items():
                facts = {"what": "benchmark", "recipe": recipe, "language": language, "part": 0, "seed": seed}
                run(upper, raw, facts, found, range(len(found.ids)), judged)
        report(f"benchmark: {recipe}")


def at_sizes(
    upper: UpperPart, raw: Raw, pairs: Pairs, recipes: Iterable[Recipe], sizes: Iterable[int], splits: int, held: int
) -> None:
    """Reward models of some of the pairs, judged by others; the seed decides which."""
    for recipe in recipes:
        for split in range(splits):
            order = in_random_order(pairs.ids, f"{split}/")
            judged = {"other": (pairs, order[:held])}
            for size in sizes:
                facts = {"what": "large", "recipe": recipe, "language": "other", "part": size, "seed": split}
                run(upper, raw, facts, pairs, order[held : held + size], judged)
        report(f"other pairs: {recipe}")


def resampled(raw: Raw, pairs: Mapping[str, Pairs], benchmark: Mapping[str, Pairs], samples: int) -> None:
    """Probes alone, of as many pairs drawn with replacement (the same in all languages), judged by a benchmark."""
    some = next(iter(benchmark.values()))
    for language, found in pairs.items():
        for sample in range(samples):
            facts = {"what": "resampled", "recipe": PROBE_ALONE, "language": language, "part": 0, "seed": sample}
            if facts in raw:
                continue
            drawn = np.random.default_rng(sample).integers(0, len(found.ids), len(found.ids))
            weights = first_head("probe", found.last[drawn], sample)
            margins = {
                judging: [round(margin, 5) for margin in ((other.last[:, 0] - other.last[:, 1]) @ weights).tolist()]
                for judging, other in benchmark.items()
            }
            raw.add(facts | {"ids": some.ids, "subsets": some.subsets, "margins": margins})


def report(line: str) -> None:
    """Say how far it is."""
    print(f"{time.strftime('%X')} {line}", flush=True)


class Judged(NamedTuple):
    """Margins of a recipe's reward models.

    Attributes:
        languages: of training and of judging.
        margins: [seeds, training languages, judging languages, pairs].
        subsets: of each pair.
    """

    languages: list[str]
    margins: np.ndarray
    subsets: list[str]

    @property
    def right(self) -> np.ndarray:
        """Percent, 100 or 0 a pair; ties are wrong."""
        return 100.0 * (self.margins > 0)

    @property
    def loss(self) -> np.ndarray:
        """Bradley-Terry loss of each pair."""
        return np.logaddexp(0, -self.margins)

    def cells(self, values: np.ndarray, *, home: bool) -> np.ndarray:
        """[seeds, cells, pairs]: of models in their own language, or in the others."""
        same = np.eye(len(self.languages), dtype=bool)
        return values[:, same if home else ~same]


def judged(records: Sequence[Mapping[str, Any]], parts: int) -> Judged | None:
    """Results of one recipe together, of the seeds that have all of theirs; None where there is none."""
    languages = list(dict.fromkeys(language for record in records for language in record["margins"]))
    seeds = []
    subsets: dict[str, str] = {}
    for seed in sorted({record["seed"] for record in records}):
        found = [record for record in records if record["seed"] == seed]
        if len(found) < parts * len(languages):
            continue
        margins: dict[tuple[str, str], dict[str, float]] = {}
        for record in found:
            subsets |= dict(zip(record["ids"], record["subsets"], strict=True))
            for language, values in record["margins"].items():
                cell = margins.setdefault((record["language"], language), {})
                cell |= dict(zip(record["ids"], values, strict=True))
        seeds.append([[[margins[a, b][i] for i in sorted(subsets)] for b in languages] for a in languages])
    return Judged(languages, np.array(seeds), [subsets[i] for i in sorted(subsets)]) if seeds else None


def with_error(by_pair: np.ndarray, digits: int = 1, *, sign: bool = False) -> str:
    """Mean and its standard error over pairs, of which each counts once, whatever languages and seeds it stands for."""
    means = by_pair.reshape(-1, by_pair.shape[-1]).mean(0)
    error = means.std(ddof=1) / math.sqrt(len(means))
    return f"{means.mean():{'+' if sign else ''}.{digits}f} ± {error:.{digits}f}"


def seed_spread(right: np.ndarray) -> str:
    """The standard deviation over seeds of a cell's accuracy, from the mean variance of cells [seeds, cells, pairs]."""
    if len(right) < 2:
        return ""
    return f"{math.sqrt(right.mean(-1).var(0, ddof=1).mean()):.1f}"


def columns_of(recipe: Recipe) -> dict[str, str]:
    """A recipe as columns of a table."""
    return {
        "head": recipe.head,
        "head's rate": f"x{recipe.head_rate:g}",
        "frozen": str(recipe.frozen),
        "rate": f"{recipe.rate:.0e}".replace("e-0", "e-"),
        "epochs": str(recipe.epochs),
    }


def _order(recipe: Recipe) -> tuple[Any, ...]:
    return (recipe.frozen, recipe)


def held_out_table(results: Mapping[Recipe, Sequence[Mapping[str, Any]]], folds: int = FOLDS) -> list[dict[str, str]]:
    """Accuracy, loss and spread over seeds, by recipe."""
    rows = []
    for recipe in sorted(results, key=_order):
        found = judged(results[recipe], folds)
        if found is None:
            continue
        home, away = (found.cells(found.right, home=home) for home in (True, False))
        cosines = [record["cosine"] for record in results[recipe] if record["cosine"] is not None]
        rows.append(
            columns_of(recipe)
            | {
                "seeds": str(len(found.margins)),
                "own language, %": with_error(home),
                "other language, %": with_error(away),
                "loss, own": f"{found.cells(found.loss, home=True).mean():.3f}",
                "loss, other": f"{found.cells(found.loss, home=False).mean():.3f}",
                "sd over seeds, own": seed_spread(home),
                "sd over seeds, other": seed_spread(away),
                "head's cosine to its start": f"{np.mean(cosines):.3f}" if cosines else "",
            }
        )
    return rows


def differences_table(
    results: Mapping[Recipe, Sequence[Mapping[str, Any]]], to: Recipe, folds: int = FOLDS
) -> list[dict[str, str]]:
    """Accuracy of each recipe less that of one, pair by pair."""
    reference = judged(results.get(to, []), folds)
    rows = []
    for recipe in sorted(results, key=_order):
        found = judged(results[recipe], folds)
        if found is None or reference is None or recipe == to:
            continue
        row = columns_of(recipe)
        for title, home in (("own language", True), ("other language", False)):
            ours, theirs = (one.cells(one.right, home=home).mean((0, 1)) for one in (found, reference))
            row[f"{title}, points"] = with_error(ours - theirs, sign=True)
        for title, home in (("loss, own", True), ("loss, other", False)):
            ours, theirs = (one.cells(one.loss, home=home).mean((0, 1)) for one in (found, reference))
            row[title] = with_error(ours - theirs, 3, sign=True)
        rows.append(row)
    return rows


def headlines(accuracy: np.ndarray, source: int) -> tuple[np.ndarray, np.ndarray]:
    """By seed, of accuracies [seeds, training languages, judging languages]: source less target, elsewhere less at home."""
    count = accuracy.shape[-1]
    home = np.diagonal(accuracy, axis1=1, axis2=2)
    targets = [i for i in range(count) if i != source]
    elsewhere = accuracy[:, ~np.eye(count, dtype=bool)].mean(-1)
    return (accuracy[:, source, targets] - home[:, targets]).mean(-1), elsewhere - home.mean(-1)


def benchmark_table(results: Mapping[Recipe, Sequence[Mapping[str, Any]]], source: str) -> list[dict[str, str]]:
    """What another seed changes in the cells and headlines of a benchmark, by recipe."""
    rows = []
    for recipe in sorted(results, key=_order):
        found = judged(results[recipe], 1)
        if found is None:
            continue
        # Every subset weighs alike, as the sections of the embedded benchmark do.
        parts = [[i for i, subset in enumerate(found.subsets) if subset == name] for name in sorted(set(found.subsets))]
        accuracy = np.mean([found.right[..., part].mean(-1) for part in parts], axis=0)
        first, second = headlines(accuracy, found.languages.index(source))
        rows.append(
            columns_of(recipe)
            | {
                "runs": str(len(accuracy)),
                "own language, %": f"{np.diagonal(accuracy, axis1=1, axis2=2).mean():.1f}",
                "other language, %": f"{accuracy[:, ~np.eye(len(found.languages), dtype=bool)].mean():.1f}",
                "sd over runs of a cell": seed_spread(found.right.reshape(len(accuracy), -1, len(found.subsets))),
                f"{source} less in-language, by run": _by_seed(first),
                "elsewhere less in-language, by run": _by_seed(second),
            }
        )
    return rows


def _by_seed(values: np.ndarray) -> str:
    if len(values) > _LISTED:
        return f"{values.mean():+.1f} on average (sd {values.std(ddof=1):.1f})"
    spread = f" (sd {values.std(ddof=1):.1f})" if len(values) > 1 else ""
    return ", ".join(f"{value:+.1f}" for value in values) + spread


def sizes_table(results: Mapping[Recipe, Sequence[Mapping[str, Any]]]) -> list[dict[str, str]]:
    """Accuracy and loss by recipe and number of training pairs, with the standard error over splits."""
    rows = []
    for recipe in sorted(results, key=_order):
        row = columns_of(recipe)
        for size in sorted({record["part"] for record in results[recipe]}):
            margins = np.array([record["margins"]["other"] for record in results[recipe] if record["part"] == size])
            right, loss = 100.0 * (margins > 0).mean(-1), np.logaddexp(0, -margins).mean(-1)
            error = f" ± {right.std(ddof=1) / math.sqrt(len(right)):.1f}" if len(right) > 1 else ""
            row["splits"] = str(len(right))
            row[f"{size} pairs, %"] = f"{right.mean():.1f}{error}"
            row[f"{size} pairs, loss"] = f"{loss.mean():.3f}"
        rows.append(row)
    return rows


def study_pairs(upper: UpperPart, folder: Path, languages: Sequence[str], source: str, part: str) -> dict[str, Pairs]:
    """One part of a study's rows in some languages."""
    found = {}
    for language in languages:
        place = folder / ("corpus" if language == source else f"translations/{language}") / f"{part}.parquet"
        found[language] = upper.read(load_selected(place, folder / f"corpus/{part}.ids.jsonl"))
        report(f"read {part} in {language}")
    return found


def main() -> None:
    """Experiment, and print or record the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recipe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, help="results folder of a finished study")
    parser.add_argument("--base", help="name of one of its base models; default: the first")
    parser.add_argument("--source", default="en")
    parser.add_argument(
        "--languages", nargs="+", default=["es", "ko"], help="judged besides the source; default: es ko"
    )
    parser.add_argument("--benchmark", help="name of its benchmark; default: the study's name")
    parser.add_argument("--large", type=Path, help="JSONL of id, prompt, chosen, rejected: more pairs, in one language")
    parser.add_argument("--quick", action="store_true", help="one seed, one block trained at most, no benchmark")
    parser.add_argument("--tables", action="store_true", help="compute nothing: the tables of what --raw has")
    parser.add_argument("--raw", type=Path, help="default: recipe.jsonl in the study's .work")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--record", action="store_true", help="put the tables into docs/recipe.md")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    raw = Raw(arguments.raw or arguments.study / ".work/recipe.jsonl")
    if not arguments.tables:
        experiment(arguments, raw)
    tables = {
        "held out": held_out_table(raw.of("held out")),
        "differences": differences_table(raw.of("held out"), CHEAPEST),
        "benchmark": benchmark_table(raw.of("benchmark"), arguments.source),
        "resampled": benchmark_table(raw.of("resampled"), arguments.source),
        "large": sizes_table(raw.of("large")),
    }
    rendered = {name: common.render_table(rows) for name, rows in tables.items() if rows}
    for name, table in rendered.items():
        print(f"\n{name}\n\n{table}")
    if arguments.record:
        text = DOCUMENT.read_text(encoding="utf-8")
        for name, table in rendered.items():
            begin, end = (mark.format(name) for mark in _MARKS)
            text = common.between(text, (begin, end), f"\n{table}\n")
        DOCUMENT.write_text(text, encoding="utf-8")


def experiment(arguments: argparse.Namespace, raw: Raw) -> None:
    """All that ``raw`` does not have yet."""
    bases = sorted(path.name for path in (arguments.study / "base_models").iterdir())
    recipes = {recipe: 1 for recipe in HELD_OUT if recipe.frozen >= 17} if arguments.quick else HELD_OUT
    finalists = [] if arguments.quick else FINALISTS
    depths = {recipe.frozen for recipe in (*recipes, *finalists, *LARGE)}
    upper = UpperPart(arguments.study / "base_models" / (arguments.base or bases[0]), depths)
    languages = [arguments.source, *arguments.languages]
    pairs = study_pairs(upper, arguments.study, languages, arguments.source, "preferences")
    upper.compare(pairs[arguments.source])
    held_out(upper, raw, pairs, recipes)
    if finalists:
        targets = [path.name for path in sorted((arguments.study / "translations").iterdir()) if path.is_dir()]
        others = [language for language in targets if language not in languages]
        pairs |= study_pairs(upper, arguments.study, others, arguments.source, "preferences")
        name = arguments.benchmark or arguments.study.name
        judging = study_pairs(upper, arguments.study, [arguments.source, *targets], arguments.source, name)
        resampled(raw, pairs, judging, SAMPLES)
        on_benchmark(
            upper, raw, {language: pairs[language] for language in judging}, judging, finalists, BENCHMARK_SEEDS
        )
    if arguments.large:
        found = upper.read(common.pairs_of(arguments.large), LARGE_TOKENS)
        at_sizes(upper, raw, found, LARGE, LARGE_SIZES, LARGE_SPLITS, LARGE_HELD_OUT)


if __name__ == "__main__":
    main()
