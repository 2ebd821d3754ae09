"""Intervals and tests for accuracies on shared items.

Resamples are matrix products: all of them for all models of a language at once take a second.
"""

from collections.abc import Sequence

import numpy as np

LEVEL = 0.95
RESAMPLES = 10_000
_BLOCK = 1_000  # resamples in memory at a time: 1,000 x 3,000 items are 24 MB
_PER_TEST = 40
_DRAWN, _MOST = 30_000_000, 100_000  # items in all resamples; resamples


def wilson(accuracy: float, effective: float, df: float = np.inf) -> tuple[float, float]:
    """Wilson's interval for a share of ``effective`` items, with the quantile of a t of ``df`` for the normal one.

    The score of RewardBench 2's Ties goes from -0.01 to 1.01; beyond 0 and 1 the interval is that of the nearer of the two,
    widened to hold the score.
    """
    from scipy.special import ndtr, stdtrit
    from statsmodels.stats.proportion import proportion_confint

    # The function wants the level that a normal quantile would have.
    alpha = 1 - LEVEL if np.isinf(df) else 2 * float(ndtr(-stdtrit(df, (1 + LEVEL) / 2)))
    share = min(max(accuracy, 0.0), 1.0)
    low, high = proportion_confint(share * effective, effective, alpha=alpha, method="wilson")
    return min(float(low), accuracy), max(float(high), accuracy)


def _enough(items: int) -> int:
    return min(_MOST, max(RESAMPLES, _DRAWN // items))


class Resamples:
    """Bootstrap draws of a benchmark's clusters of items, within each stratum, the same for everything that is compared.

    10,000 of them for 3,000 items and up to 100,000 for fewer: the shares of few items take few values, far apart, and a
    bound that few resamples put on the wrong one of two neighbours is visibly off.

    Args:
        clusters: [items], the cluster of each item, counted from 0.
        strata: [clusters], the stratum of each cluster.
    """

    def __init__(self, clusters: np.ndarray, strata: np.ndarray, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        resamples = _enough(len(clusters))
        counts = np.zeros((resamples, len(strata)), np.uint16)  # how often each cluster is drawn
        for stratum in dict.fromkeys(strata.tolist()):
            members = np.flatnonzero(strata == stratum)
            counts[:, members] = generator.multinomial(len(members), np.full(len(members), 1 / len(members)), resamples)
        self._counts = counts[:, clusters]

    def kappas(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Cohen's kappa [resamples, columns] of outcomes a and b [items, columns] of 0 and 1.

        NaN where a resample leaves it undefined.
        """
        columns = np.concatenate([a, b, a * b], axis=1)
        # Clusters of unequal size make resamples of unequal size.
        shares = np.concatenate([block @ columns / block.sum(axis=1, keepdims=True) for block in self._blocks()])
        a_right, b_right, both = np.split(shares, 3, axis=1)
        agreement = 1 - a_right - b_right + 2 * both
        chance = a_right * b_right + (1 - a_right) * (1 - b_right)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(chance < 1, (agreement - chance) / (1 - chance), np.nan)

    def _blocks(self):
        for start in range(0, len(self._counts), _BLOCK):
            yield self._counts[start : start + _BLOCK].astype(float)


def interval(draws: np.ndarray) -> tuple[float, float]:
    """The percentile interval of draws, those that are undefined apart."""
    defined = draws[np.isfinite(draws)]
    if not len(defined):
        return float("nan"), float("nan")
    # Rounded, so that an exact zero is not a sum that came out just below or above it.
    low, high = np.round(np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]), 12) + 0.0
    return float(low), float(high)


def permutation_p_values(parts: np.ndarray, first: np.ndarray, second: np.ndarray, seed: int = 0) -> np.ndarray:
    """Two-sided p of paired permutation tests of the difference in weighted mean, one per pair of columns.

    Under the null hypothesis the two models of a pair are interchangeable on every cluster of items, so that each
    difference has either sign. p = (1 + number of resamples at least as far from 0 as observed) / (1 + resamples), never 0
    (Phipson and Smyth, 2010). There are as many resamples as in a bootstrap, and at least 40 to a pair: the smallest p,
    corrected for all pairs, is below 0.025, where 10,000 resamples alone could not make any of more than 500 pairs
    significant at 5 %. scipy.stats.permutation_test does the same for one pair at a time, a hundred times slower.

    Args:
        parts: [clusters, models], what each cluster adds to each model's mean.
        first, second: [pairs], the columns of each pair.

    Returns:
        [pairs].
    """
    generator = np.random.default_rng(seed)
    means = parts.sum(axis=0)
    observed = np.abs(means[first] - means[second])[:, None] - 1e-12
    exceeding = np.zeros(len(first), int)
    resamples = max(_enough(len(parts)), _PER_TEST * len(first))
    for start in range(0, resamples, _BLOCK):
        signs = generator.integers(0, 2, (min(_BLOCK, resamples - start), len(parts))).astype(float) * 2 - 1
        # One product per model instead of one per pair: the sign goes with the cluster.
        signed = (signs @ parts).T.copy()
        exceeding += (np.abs(signed[first] - signed[second]) >= observed).sum(axis=1)
    return (1 + exceeding) / (1 + resamples)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values adjusted for a family of tests by Holm's step-down method (Holm, 1979)."""
    from statsmodels.stats.multitest import multipletests

    return multipletests(p_values, method="holm")[1] if len(p_values) else np.array([])


def kappa(a: np.ndarray, b: np.ndarray) -> float:
    """Cohen's kappa of two outcomes [items] of 0 and 1; NaN where both are right, or both wrong, everywhere."""
    from sklearn.metrics import cohen_kappa_score

    if len(set(a.tolist()) | set(b.tolist())) < 2:
        return float("nan")
    return float(cohen_kappa_score(a.astype(int), b.astype(int)))


def expected_calibration_error(margins: np.ndarray, bins: int = 10) -> tuple[float, float]:
    """(expected calibration error, mean confidence) of sigmoid(margin) as the probability that the chosen answer is better.

    The confidence of a pair is max(p, 1 - p), and it is right where its margin is positive. Over equal-width bins of
    confidence on [0.5, 1]: sum of n_bin / n * |accuracy - mean confidence| (Guo et al., arXiv 1706.04599, equation 3).
    """
    confidence = 1 / (1 + np.exp(-np.abs(margins)))
    bin_of = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    error = 0.0
    for index in np.unique(bin_of):
        here = bin_of == index
        error += here.mean() * abs((margins[here] > 0).mean() - confidence[here].mean())
    return float(error), float(confidence.mean())
