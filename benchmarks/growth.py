"""How the time of scoring grows with the number of rows, the length of texts and the number of languages.

    PYTHONPATH=workflow .venv/bin/python -m benchmarks.growth MODEL_FOLDER PAIRS.jsonl

Each is doubled some times while the others stay. The exponent is the slope of log seconds over log size: 1 is linear.
"""

import argparse
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The power of its size that time grows with, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def main() -> None:
    """Print seconds by size, and exponents."""
    parser = common.parser_of(__doc__, "growth")
    parser.add_argument("model", type=Path, help="folder of a reward model that a study has trained")
    parser.add_argument("pairs", type=Path, help="JSONL of id, prompt, chosen, rejected")
    parser.add_argument("--most-rows", type=int, default=128)
    parser.add_argument("--most-tokens", type=int, default=2048, help="of a text")
    parser.add_argument("--most-languages", type=int, default=8)
    parser.add_argument(
        "--most-grouped", type=int, default=128_000, help="texts whose shared beginnings are looked for"
    )
    parser.add_argument("--doublings", type=int, default=3)
    parser.add_argument("--tokens-per-batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()

    import torch

    from rmtransfer.models import reward

    torch.set_num_threads(arguments.threads)
    rows = common.pairs_of(arguments.pairs, arguments.most_rows)
    model = reward.load_reward_model(arguments.model, torch.device("cpu"))
    reward.score(model, [[2, 3, 5]], arguments.tokens_per_batch)
    growths = {
        "pairs to score": _by_rows(arguments, model, rows),
        "tokens of each of 8 texts to score": _by_length(arguments, model),
        "languages of 8 pairs to score": _by_languages(arguments, rows[:8]),
        "texts to group by their beginnings": _by_grouping(arguments),
    }
    table, gains = [], []
    for what, runs in growths.items():
        if len(runs) < arguments.doublings + 1:
            raise SystemExit(f"{what}: {max(runs)} are too few to be halved {arguments.doublings} times")
        measured = common.in_turns({str(size): run for size, run in runs.items()}, arguments.rounds)
        best = {size: min(measured[str(size)].cpu) for size in runs}
        power = exponent(list(best), list(best.values()))
        table.append(
            {
                "what grows": what,
                "sizes": ", ".join(f"{size:,}" for size in best),
                "CPU seconds": ", ".join(f"{seconds:.2f}" for seconds in best.values()),
                "exponent": f"{power:.2f}",
            }
        )
        gains.append(common.Gain(f"growth with {what}", f"{min(best):,} to {max(best):,}", f"exponent {power:.2f}"))
    common.publish(
        "growth",
        common.machine(arguments.threads),
        "python -m benchmarks.growth MODEL PAIRS",
        gains,
        [
            common.Table(
                table,
                [f"The best of {arguments.rounds} rounds, {arguments.tokens_per_batch} tokens a batch, loaded models."],
            )
        ],
        record=arguments.record,
    )


def _sizes(most: int, doublings: int) -> list[int]:
    return [most >> k for k in reversed(range(doublings + 1)) if most >> k]


def _by_rows(
    arguments: argparse.Namespace, model: Any, rows: Sequence[dict[str, Any]]
) -> dict[int, Callable[[], object]]:
    """The first few pairs again and again with other tokens: as long as ever, and sharing nothing from one time to the next."""
    from benchmarks.scoring_speed import encoded
    from rmtransfer.models import reward

    sizes = _sizes(len(rows), arguments.doublings)
    texts = encoded(arguments.model, rows[: sizes[0]])
    tokens = model.config.get_text_config().vocab_size

    def run(times: int) -> Callable[[], object]:
        shifted = [[(token + 1009 * time) % tokens for token in text] for time in range(times) for text in texts]
        return lambda: reward.score(model, shifted, arguments.tokens_per_batch)

    return {size: run(size // sizes[0]) for size in sizes}


def _by_length(arguments: argparse.Namespace, model: Any) -> dict[int, Callable[[], object]]:
    """Random tokens, which share nothing."""
    from rmtransfer.models import reward

    draw = random.Random(0)
    texts = [[draw.randrange(100, 1000) for _ in range(arguments.most_tokens)] for _ in range(8)]

    def run(length: int) -> Callable[[], object]:
        return lambda: reward.score(model, [text[:length] for text in texts], arguments.tokens_per_batch)

    return {length: run(length) for length in _sizes(arguments.most_tokens, arguments.doublings)}


def _by_languages(arguments: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> dict[int, Callable[[], object]]:
    """A reward model of the study's, loaded, that tokenises and scores."""
    from rmtransfer.scoring.reward_model import Resources
    from rmtransfer.scoring.trained import Trained, TrainedOptions
    from rmtransfer.texts.items import items_of

    items, _ = items_of(rows, by_text=True)
    resources = Resources(
        device="cpu", tokens_per_batch=arguments.tokens_per_batch, requests_at_once=1, cache=Path("unused")
    )
    model = Trained(TrainedOptions(kind="trained", path=str(arguments.model)), "benchmark", resources)
    model.rewards("en", items[:1])  # loads it

    def run(count: int) -> Callable[[], object]:
        return lambda: [model.rewards(f"en-x-{number}", items) for number in range(count)]

    return {count: run(count) for count in _sizes(arguments.most_languages, arguments.doublings)}


def _by_grouping(arguments: argparse.Namespace) -> dict[int, Callable[[], object]]:
    """Four answers of 40 tokens to each prompt of 60."""
    from rmtransfer.models.packing import group_texts

    draw = random.Random(0)
    texts: list[list[int]] = []
    for _ in range(math.ceil(arguments.most_grouped / 4)):
        prompt = [draw.randrange(1000) for _ in range(60)]
        texts += [prompt + [draw.randrange(1000) for _ in range(40)] for _ in range(4)]

    def run(count: int) -> Callable[[], object]:
        return lambda: group_texts(texts[:count], arguments.tokens_per_batch)

    return {count: run(count) for count in _sizes(arguments.most_grouped, arguments.doublings)}


if __name__ == "__main__":
    main()
