"""How far a mean of outcomes would move with other items and other seeds; docs/statistics.md tells the model.

Shapes: N items, C clusters of them, T training languages, E evaluation languages, K seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.special import stdtr, stdtridf, stdtrit

from rmtransfer.transfer.statistics import LEVEL

# Variances below this are what sums of zero leave in floating point.
_NOTHING = 1e-24
_MANY = 1e6  # degrees of freedom; the quantile is the normal one to six digits
# From which share of a variance on a part of one, two or three degrees of freedom decides the quantile, and how steeply;
# from four on Satterthwaite's are good enough. benchmarks/coverage.py finds and tries them.
_UNSURE = {1.0: (0.1, 0.6), 2.0: (0.3, 0.5), 3.0: (0.3, 0.8)}


class Variance(NamedTuple):
    """An estimated variance and its degrees of freedom."""

    value: float
    df: float


def combined(variances: Iterable[Variance]) -> Variance:
    """The sum of independent estimates; one that is taken away has a negative value.

    Its degrees of freedom are Satterthwaite's (Biometrics Bulletin 2, 1946), V^2 / sum of V_i^2 / df_i, and at least
    one, which what is taken away could leave less of.
    """
    parts = [part for part in variances if abs(part.value) > _NOTHING]
    if not parts:
        return Variance(0, np.inf)
    value = sum(part.value for part in parts)
    df = value**2 / sum(part.value**2 / part.df for part in parts)
    return Variance(value, max(df, 1.0))


class Items:
    """A benchmark's items as a sample: clusters drawn at random within strata.

    A stratum is a subset, or several that share clusters: HumanEval's problems are the same in six subsets, which are one
    stratum of 164 clusters.

    Args:
        subsets: [N], the subset of each item.
        clusters: [N], its cluster; where all differ, items are drawn one by one.

    Attributes:
        clusters: [N], counted from 0 in order of appearance.
        strata: [C], the stratum of each cluster.
    """

    def __init__(self, subsets: Sequence[object], clusters: Sequence[object]) -> None:
        self._subsets = _codes(subsets)
        self.clusters = _codes(clusters)
        s, c = self._subsets.max() + 1, self.clusters.max() + 1
        edges = coo_array((np.ones(len(self.clusters)), (self._subsets, s + self.clusters)), (s + c, s + c))
        self.strata = connected_components(edges, directed=False)[1][s:]
        counts = np.bincount(self.strata)
        # A stratum of one cluster has no spread of its own: it is measured from the mean of all items instead.
        self._lonely = counts[self.strata] == 1
        corrections = np.where(counts > 1, counts / np.maximum(counts - 1, 1), 1)
        self._df = np.maximum(counts - 1, 1)
        self._by_stratum = _indicator(self.strata, corrections[self.strata])
        self._by_subset, self._by_cluster = _indicator(self._subsets), _indicator(self.clusters)

    def parts(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """What each cluster adds to a weighted mean [C, ...], for values [N, ...]."""
        return self._sums(self._by_cluster, values, weights)

    def scores(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The linearised mean [C, ...]: by how much each cluster moves it away from what its strata give.

        sum over the cluster's items of w_i (z_i - mean of its subset), for values z [N, ...] and weights w [N] above 0 that sum
        to one (Woodruff, JASA 66, 1971). The scores of a sum of means are the sum of their scores.
        """
        totals = self._sums(self._by_subset, values, weights)
        means = totals / (self._by_subset @ weights).reshape(-1, *[1] * (values.ndim - 1))
        centres = means[self._subsets]
        centres[self._lonely[self.clusters]] = totals.sum(axis=0)
        return self.parts(values - centres, weights)

    def variance(self, scores: np.ndarray) -> Variance:
        """The variance of a mean with these scores [C]: sum over strata of C / (C - 1) sum of squares.

        The between-cluster variance estimator of survey sampling (Cochran, Sampling Techniques, 1977, section 11). Clusters
        of one give sum of W^2 s^2 / n over subsets. NaN for one cluster alone.
        """
        if len(scores) == 1:
            return Variance(np.nan, np.nan)
        by_stratum = self._by_stratum @ scores**2
        return combined(Variance(float(v), float(df)) for v, df in zip(by_stratum, self._df, strict=True))

    def sum_of(self, quadratic: np.ndarray) -> np.ndarray:
        """The expectation of quadratic forms of means, as far as items make it: of each cluster's scores [C, ...] to [...].

        The same estimator as :meth:`variance`.
        """
        return (self._by_stratum @ quadratic).sum(axis=0)

    @property
    def df(self) -> int:
        """Clusters less strata."""
        return int(self._df.sum())

    @staticmethod
    def _sums(indicator: csr_array, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        weighted = values * weights.reshape(-1, *[1] * (values.ndim - 1))
        return (indicator @ weighted.reshape(len(weighted), -1)).reshape(-1, *values.shape[1:])


class SeedGrid:
    """What seeds do to the accuracies of one base model's reward models, pooled over its languages.

    The analysis of variance of accuracies a[t, e, k] with a fixed mean for every cell (t, e): seeds, and their interactions
    with training language, evaluation language and both. Seeds are paired, because all models of a seed start from one head
    and see the pairs in one order, so that what they share cancels in differences.

    A contrast c[t, e] has the variance sum over x of q_x MS_x / K, where q_x is the squared length of c's projection onto the
    space of x (Scheffé, The Analysis of Variance, 1959, chapter 4). MS also holds the interaction of seeds with this
    benchmark's items; the same mean squares of the clusters' scores say how much.

    Args:
        accuracies: [T, E, K].
        scores: [C, T, E, K], the same cells' linearised means.
    """

    def __init__(self, accuracies: np.ndarray, scores: np.ndarray, items: Items) -> None:
        t, e, k = accuracies.shape
        self._cells, self._items_df = (t, e), items.df
        self.df = (k - 1) * np.array([1, t - 1, e - 1, (t - 1) * (e - 1)])
        divisors = np.maximum(self.df, 1)
        self.mean_squares = _sums_of_squares(accuracies) / divisors
        self.of_items = items.sum_of(_sums_of_squares(scores)) / divisors

    def variance(self, contrast: Mapping[tuple[str, str], float]) -> list[Variance] | None:
        """The parts that one seed adds to the variance of a contrast of cells, the items' taken away.

        A cell off the grid, of a mixture or a translation's variant, is one more of the same population.

        Returns:
            To be :func:`combined`; None where the grid has no degrees of freedom for it.
        """
        t, e = self._cells
        by_training, by_evaluation = _sum_by(contrast, 0), _sum_by(contrast, 1)
        both = sum(contrast.values()) ** 2 / (t * e)
        of_training = sum(c**2 for c in by_training.values()) / e - both
        of_evaluation = sum(c**2 for c in by_evaluation.values()) / t - both
        rest = sum(c**2 for c in contrast.values()) - both - of_training - of_evaluation
        lengths = np.array([both, of_training, of_evaluation, rest])
        lengths[lengths < 1e-12] = 0
        if (lengths[self.df == 0] > 0).any():
            return None
        found = []
        for q, df, square, of_items in zip(lengths, self.df, self.mean_squares, self.of_items, strict=True):
            if q > 0:
                found += [Variance(q * square, df), Variance(-q * of_items, df * self._items_df)]
        return found


def own_seeds(accuracies: np.ndarray, scores: np.ndarray, items: Items) -> list[Variance]:
    """The parts that one seed adds to the variance of a contrast, from its own accuracies [K] and scores [C, K] alone."""
    found = SeedGrid(accuracies[None, None], scores[:, None, None], items).variance({("", ""): 1})
    return found or []


class Estimate(NamedTuple):
    """A mean of accuracies or of their differences.

    Attributes:
        value: in accuracy, not per cent.
        variance: of items, and of seeds where there are several; NaN for one item alone.
        seeds: of the model that has fewest.
        several_seeds: whether any of them has more than one, so that the variance holds seeds.
        n: items.
    """

    value: float
    variance: Variance
    seeds: int
    several_seeds: bool
    n: int

    def interval(self) -> tuple[float, float]:
        """The 95 % interval value ± t sqrt(variance)."""
        half = float(stdtrit(self.variance.df, (1 + LEVEL) / 2)) * np.sqrt(self.variance.value)
        # Rounded, so that an exact zero is not a sum that came out just below or above it.
        return round(self.value - half, 12) + 0.0, round(self.value + half, 12) + 0.0

    def p_value(self) -> float:
        """Two-sided, that the value is 0; NaN where nothing varies."""
        if not self.variance.value > 0:
            return float("nan")
        return 2 * float(stdtr(self.variance.df, -abs(self.value) / np.sqrt(self.variance.value)))


def with_seeds(items: Variance, seeds: Iterable[Variance]) -> Variance:
    """Items' and seeds' variance together; seeds take nothing from what the items alone make.

    Satterthwaite's degrees of freedom believe a part of few: two seeds that agree by chance give a small share and hence many
    degrees of freedom, and where the seed is nearly all that varies 87 of 100 intervals hold the truth (92 with three seeds).
    So the part of fewest degrees of freedom, where those are three or fewer, has its own quantile, and t lies between that and
    the rest's by the part's share of the variance, a numerical answer to the question for which quantile every true
    share has the same coverage (Trickett and Welch, Biometrika 41, 1954): 94 to 96 with one degree of freedom, 94.8 to 95.2
    with two or three. The degrees of freedom returned are those whose t it is.
    """
    parts = [items, *seeds]
    whole = combined(parts)
    if not whole.value > items.value:
        return items
    fewest = min(part.df for part in parts if part.value > 0)
    if fewest not in _UNSURE:
        return whole
    few = combined(part for part in parts if part.df == fewest)
    rest = combined(part for part in parts if part.df != fewest)
    start, power = _UNSURE[fewest]
    weight = min(max((few.value / whole.value - start) / (1 - start), 0), 1) ** power
    p = (1 + LEVEL) / 2
    t = weight * stdtrit(few.df, p) + (1 - weight) * stdtrit(min(rest.df, _MANY), p)
    return Variance(whole.value, float(stdtridf(p, t)))


def components(values: np.ndarray, factors: Sequence[str]) -> dict[tuple[str, ...], Variance]:
    """Components of variance of a crossed design with one value in every cell, by the analysis of variance.

    All factors count as random: E[MS_A] = sum over B that hold A of (number of values for a level of B) sigma^2_B, solved
    for sigma^2 (Searle, Casella and McCulloch, Variance Components, 1992, chapter 4). The largest interaction also holds
    what nothing explains. Factors of one level have no component.

    Args:
        values: an axis a factor.
        factors: their names.

    Returns:
        Names of the factors that interact to component, with the degrees of freedom of its mean square; main effects first.
    """
    axes = [axis for axis in range(values.ndim) if values.shape[axis] > 1]
    effects = [effect for size in range(1, len(axes) + 1) for effect in combinations(axes, size)]
    # Sums of squares of the means of every margin, the grand mean's taken away everywhere.
    centred = values - values.mean()
    margins = {
        effect: float((centred.mean(axis=tuple(a for a in range(values.ndim) if a not in effect)) ** 2).mean())
        for effect in effects
    }
    df = {effect: int(np.prod([values.shape[axis] - 1 for axis in effect])) for effect in effects}
    squares: dict[tuple[int, ...], float] = {}
    for effect in effects:
        inner = sum(squares[other] for other in effects if set(other) < set(effect))
        squares[effect] = margins[effect] * values.size - inner
    found = {}
    for effect in effects:
        signed = sum(
            (-1) ** (len(other) - len(effect)) * squares[other] / df[other]
            for other in effects
            if set(other) >= set(effect)
        )
        levels = int(np.prod([values.shape[axis] for axis in effect]))
        found[tuple(factors[axis] for axis in effect)] = Variance(signed * levels / values.size, df[effect])
    return found


def _sums_of_squares(values: np.ndarray) -> np.ndarray:
    """Sums of squares [..., 4] of values [..., T, E, K]: seeds, training x seeds, evaluation x seeds, all three."""
    t, e, _ = values.shape[-3:]
    deviations = values - values.mean(axis=-1, keepdims=True)
    seeds = t * e * (deviations.mean(axis=(-3, -2)) ** 2).sum(axis=-1)
    training = e * (deviations.mean(axis=-2) ** 2).sum(axis=(-2, -1)) - seeds
    evaluation = t * (deviations.mean(axis=-3) ** 2).sum(axis=(-2, -1)) - seeds
    rest = (deviations**2).sum(axis=(-3, -2, -1)) - seeds - training - evaluation
    return np.stack([seeds, training, evaluation, rest], axis=-1)


def _sum_by(contrast: Mapping[tuple[str, str], float], place: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for cell, c in contrast.items():
        found[cell[place]] = found.get(cell[place], 0) + c
    return found


def _codes(names: Sequence[object]) -> np.ndarray:
    order = {name: code for code, name in enumerate(dict.fromkeys(names))}
    return np.array([order[name] for name in names])


def _indicator(codes: np.ndarray, values: np.ndarray | None = None) -> csr_array:
    """[codes, members]: adds up members by code."""
    entries = np.ones(len(codes)) if values is None else values
    return csr_array(coo_array((entries, (codes, np.arange(len(codes)))), (codes.max() + 1, len(codes))))
