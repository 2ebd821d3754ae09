"""How often 95 % intervals hold the truth, by simulation with the library's own estimators.

PYTHONPATH=workflow .venv/bin/python -m benchmarks.coverage --record    the table of docs/statistics.md
PYTHONPATH=workflow .venv/bin/python -m benchmarks.coverage --quick     a tenth of the draws
"""

import argparse
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from benchmarks.common import ROOT, between, render_table
from rmtransfer.transfer.variance import Estimate, Items, SeedGrid, Variance, own_seeds, with_seeds

DOCUMENT = ROOT / "docs/statistics.md"
_MARKS = ("<!-- coverage:begin -->", "<!-- coverage:end -->")
LANGUAGES = 5  # trained in and evaluated in
SEEDS = (2, 3, 5)
DRAWS = {60: 1000, 300: 800, 3000: 400}  # by number of items
ACCURACY = 0.7
# What a margin varies with beside the seed, in shares: an item, and its products with training (t) and evaluation language
# (e) and seed (k). Margins of two models of one seed and other languages correlate .73, of one language and two seeds .60.
MARGIN = {"": 0.35, "e": 0.15, "k": 0.15, "ek": 0.08, "t": 0.06, "te": 0.04, "tk": 0.05, "tek": 0.12}


class Seeds(NamedTuple):
    """What a seed does to accuracies.

    Attributes:
        points: standard deviation of a cell's accuracy over seeds.
        shares: of its variance, by what shares the effect: k, all cells; tk, a training language; ek, an evaluation
            language; tek, none.
    """

    points: float
    shares: Mapping[str, float]

    def __str__(self) -> str:
        names = {"k": "all languages", "tk": "training language", "ek": "evaluation language", "tek": "cell"}
        if not self.points:
            return "none"
        if len(set(self.shares.values())) == 1 and len(self.shares) > 1:
            return f"{self.points:g} points, a quarter each"
        return f"{self.points:g} points, {', '.join(f'{100 * v:.0f} % {names[k]}' for k, v in self.shares.items())}"


_QUARTERS = dict.fromkeys(("k", "tk", "ek", "tek"), 0.25)
_SHARED = {"k": 0.9, "tk": 0.05, "ek": 0.05}
SETTINGS = (
    Seeds(0, _QUARTERS),
    *(Seeds(points, _QUARTERS) for points in (1, 5)),
    Seeds(5, _SHARED),
    Seeds(5, {"tk": 1}),
    Seeds(5, {"tek": 1}),
)


def _difference(pairs: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> dict[tuple[int, int], float]:
    contrast: dict[tuple[int, int], float] = {}
    for a, b in pairs:
        contrast[a] = contrast.get(a, 0) + 1 / len(pairs)
        contrast[b] = contrast.get(b, 0) - 1 / len(pairs)
    return contrast


_OTHERS = range(1, LANGUAGES)
# (training, evaluation language) to coefficient. Several of a kind are drawn at once and counted together.
QUANTITIES = {
    "source minus target-language models, mean over targets": [
        _difference([((s, e), (e, e)) for e in range(LANGUAGES) if e != s]) for s in (0, 1)
    ],
    "elsewhere minus in-language, mean over all": [
        _difference([((t, e), (e, e)) for t, e in product(range(LANGUAGES), repeat=2) if t != e])
    ],
    "difference of two models": [_difference([((0, e), (e, e))]) for e in (1, 2)],
    "accuracy of one model": [{(k, k): 1.0} for k in (0, 1)],
}
METHODS = ("items alone", "its own seeds", "pooled seeds")


def outcomes(generator: np.random.Generator, n: int, k: int, seeds: Seeds) -> tuple[np.ndarray, float]:
    """Outcomes [items, training, evaluation, seeds] of 0 and 1, and the accuracy that they are expected to have."""
    # A margin of variance 1, and of the seed's; an accuracy moves by the density at 0 for each unit of it.
    middle = ndtri(ACCURACY)
    spread = seeds.points / 100 / (math.exp(-(middle**2) / 2) / math.sqrt(2 * math.pi))
    sizes = {"t": LANGUAGES, "e": LANGUAGES, "k": k}

    def drawn(items: int, effect: str, variance: float) -> np.ndarray:
        shape = (items, *(size if name in effect else 1 for name, size in sizes.items()))
        return generator.standard_normal(shape, np.float32) * np.float32(math.sqrt(variance))

    margin = np.full((1, 1, 1, 1), middle, np.float32)
    for effect, share in seeds.shares.items():
        margin = margin + drawn(1, effect, share * spread**2)
    for effect, share in MARGIN.items():
        margin = margin + drawn(n, effect, share)
    return (margin > 0).astype(float), float(ndtr(middle / math.sqrt(1 + spread**2)))


def estimates(
    accuracies: np.ndarray, scores: np.ndarray, items: Items, grid: SeedGrid, contrast: Mapping[tuple[int, int], float]
) -> list[Estimate]:
    """A contrast by each of ``METHODS``, from accuracies [training, evaluation, seeds] and scores [items, ...]."""
    k = accuracies.shape[-1]
    own = np.sum([c * accuracies[cell] for cell, c in contrast.items()], axis=0)
    own_scores = np.sum([c * scores[:, *cell] for cell, c in contrast.items()], axis=0)
    of_items = items.variance(own_scores.mean(axis=1))
    pooled = grid.variance({(str(t), str(e)): c for (t, e), c in contrast.items()}) or []
    found = []
    for seeds in ([], own_seeds(own, own_scores, items), pooled):
        variance = with_seeds(of_items, [Variance(part.value / k, part.df) for part in seeds])
        found.append(Estimate(float(own.mean()), variance, k, True, len(scores)))
    return found


def simulate(n: int, k: int, seeds: Seeds, draws: int) -> Iterator[tuple[str, str, float, float]]:
    """(quantity, method, share of intervals that hold the truth, median half width in points)."""
    generator = np.random.default_rng(n + k)
    items = Items(["subset"] * n, range(n))
    share = np.full(n, 1 / n)
    held: dict[tuple[str, str], list[bool]] = {}
    widths: dict[tuple[str, str], list[float]] = {}
    for _ in range(draws):
        z, expected = outcomes(generator, n, k, seeds)
        accuracies, scores = z.mean(axis=0), items.scores(z, share)
        grid = SeedGrid(accuracies, scores, items)
        for quantity, contrasts in QUANTITIES.items():
            for contrast in contrasts:
                truth = expected * sum(contrast.values())
                for method, estimate in zip(METHODS, estimates(accuracies, scores, items, grid, contrast), strict=True):
                    low, high = estimate.interval()
                    held.setdefault((quantity, method), []).append(low <= truth <= high)
                    widths.setdefault((quantity, method), []).append(50 * (high - low))
    for quantity, method in held:
        yield quantity, method, float(np.mean(held[quantity, method])), float(np.median(widths[quantity, method]))


def main() -> None:
    """Print coverage in every setting, and the table of docs/statistics.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the draws")
    parser.add_argument("--record", action="store_true", help="put the table into docs/statistics.md")
    arguments = parser.parse_args()
    began = time.perf_counter()
    found: dict[tuple[str, int, int, str], list[tuple[float, float]]] = {}
    for n, k, seeds in product(DRAWS, SEEDS, SETTINGS):
        draws = DRAWS[n] // 10 if arguments.quick else DRAWS[n]
        for quantity, method, share, width in simulate(n, k, seeds, draws):
            found.setdefault((quantity, k, n, method), []).append((share, width))
            print(
                f"{n:5} items, {k} seeds ({seeds}): {quantity}, {method}: {100 * share:.1f} % ({width:.1f})", flush=True
            )
    rows = []
    for quantity, k, n in product(QUANTITIES, SEEDS, DRAWS):
        row = {"interval of": quantity, "seeds": str(k), "items": f"{n:,}"}
        for method in METHODS:
            shares, widths = zip(*found[quantity, k, n, method], strict=True)
            row[method] = f"{100 * min(shares):.0f}–{100 * max(shares):.0f}"
            row[f"± {method}"] = f"{min(widths):.1f}–{max(widths):.1f}"
        rows.append(row)
    table = render_table(rows)
    print(f"\n{table}\n{time.perf_counter() - began:.0f} seconds")
    if arguments.record:
        DOCUMENT.write_text(between(DOCUMENT.read_text(encoding="utf-8"), _MARKS, table), encoding="utf-8")


if __name__ == "__main__":
    main()
