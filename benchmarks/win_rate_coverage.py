"""How often the 95 % intervals of win rates hold the truth, by simulation with the library's own bootstrap.

PYTHONPATH=workflow .venv/bin/python -m benchmarks.win_rate_coverage --record    the table of docs/statistics.md
PYTHONPATH=workflow .venv/bin/python -m benchmarks.win_rate_coverage --quick     a tenth of the draws
"""

import argparse
import time
from itertools import product

import numpy as np
from scipy.special import expit, ndtr

from benchmarks.common import between, render_table
from benchmarks.coverage import DOCUMENT
from rmtransfer.alignment.intervals import SHARE, Draws, mean
from rmtransfer.alignment.win_rates import length_controlled
from rmtransfer.transfer.statistics import interval

_MARKS = ("<!-- win rates:begin -->", "<!-- win rates:end -->")
STUDIES = {16: 1000, 100: 800, 805: 300}  # by number of instructions
SEEDS = ((1, 0.0), (2, 0.03), (3, 0.0), (3, 0.03))  # seeds of the selector, and what one does to a win rate
RATES = (0.5, 0.7, 0.9)  # of wins among what is no tie
TIES = (0.0, 0.15)
OF_SEEDS = 0.6  # share of an outcome's variance that is of instruction and seed together
LENGTHS = ((0.0, 0.0), (0.5, 1.5), (-1.0, 1.0))  # b0 and b1 of the logistic model


def outcomes(generator: np.random.Generator, n: int, k: int, rate: float, ties: float, seed: float) -> np.ndarray:
    """Outcomes [seeds, instructions] of 0, 1/2 and 1."""
    ranks = ndtr(np.sqrt(1 - OF_SEEDS) * generator.normal(size=n) + np.sqrt(OF_SEEDS) * generator.normal(size=(k, n)))
    won = (1 - ties) * (rate + seed * generator.normal(size=(k, 1)))
    return np.where(ranks < won, 1.0, np.where(ranks < won + ties, 0.5, 0.0))


def raw(n: int, k: int, seed: float, studies: int) -> tuple[str, str, str]:
    """Lowest and highest share, in per cent, of intervals that hold the truth: percentile ones and ours; our half widths."""
    generator, draws = np.random.default_rng(n + k), Draws(n)
    plain, ours, widths = [], [], []
    for rate, ties in product(RATES, TIES):
        truth, held, wide = (1 - ties) * rate + ties / 2, [], []
        for _ in range(studies):
            statistics = [mean(these) for these in outcomes(generator, n, k, rate, ties, seed)]
            _, low, high = draws.estimate({"": statistics}, {"": 1}, SHARE)
            first, last = interval(np.mean([statistic(draws.counts) for statistic in statistics], axis=0))
            held.append((first <= truth <= last, low <= truth <= high))
            wide.append((high - low) / 2)
        found = np.mean(held, axis=0)
        plain.append(found[0])
        ours.append(found[1])
        widths.append(float(np.median(wide)))
    return _range(plain), _range(ours), _range(widths)


def controlled(n: int, studies: int) -> tuple[str, str, str]:
    """The same of length-controlled win rates."""
    generator, draws = np.random.default_rng(n), Draws(n)
    plain, ours, widths = [], [], []
    for b0, b1 in LENGTHS:
        truth, held, wide = expit(b0), [], []
        for _ in range(studies):
            longer = generator.normal(0.5, 1, n)
            won = generator.random(n) < expit(b0 + b1 * np.tanh(longer / longer.std(ddof=1)))
            statistic = length_controlled(won.astype(float), longer)
            _, low, high = draws.estimate({"": [statistic]}, {"": 1}, SHARE)
            first, last = interval(statistic(draws.counts))
            held.append((first <= truth <= last, low <= truth <= high))
            wide.append((high - low) / 2)
        found = np.mean(held, axis=0)
        plain.append(found[0])
        ours.append(found[1])
        widths.append(float(np.median(wide)))
    return _range(plain), _range(ours), _range(widths)


def _range(shares: list[float]) -> str:
    return f"{100 * min(shares):.0f}–{100 * max(shares):.0f}"


def main() -> None:
    """Print coverage, and put the table into docs/statistics.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the draws")
    parser.add_argument("--record", action="store_true", help="put the table into docs/statistics.md")
    arguments = parser.parse_args()
    began, rows = time.perf_counter(), []
    settings = [("win rate", k, seed) for k, seed in SEEDS] + [("length-controlled win rate", 1, 0.0)]
    for (what, k, seed), (n, studies) in product(settings, STUDIES.items()):
        studies = studies // 10 if arguments.quick else studies
        found = raw(n, k, seed, studies) if what == "win rate" else controlled(n, studies // 2)
        points = f"{100 * seed:.0f}" if k > 1 else "-"
        row = {"interval of": what, "seeds": str(k), "points of a seed": points, "instructions": str(n)}
        rows.append(row | dict(zip(("percentile", "ours", "± ours"), found, strict=True)))
        print(rows[-1], flush=True)
    table = render_table(rows)
    print(f"\n{table}\n{time.perf_counter() - began:.0f} seconds")
    if arguments.record:
        DOCUMENT.write_text(between(DOCUMENT.read_text(encoding="utf-8"), _MARKS, table), encoding="utf-8")


if __name__ == "__main__":
    main()
