"""Intervals, tests and coefficients against SciPy, scikit-learn and values worked out by hand."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from rmtransfer.transfer.statistics import (
    RESAMPLES,
    Resamples,
    expected_calibration_error,
    holm,
    interval,
    kappa,
    permutation_p_values,
    wilson,
)


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (11, 15), (1, 1), (1480, 2985)])
def test_wilson_is_scipys(right, n):
    expected = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_at_an_effective_size_with_a_quantile_of_t():
    n, p, df = 8 / 3, 0.75, 3
    for z, found in ((stats.norm.ppf(0.975), wilson(p, n)), (stats.t.ppf(0.975, df), wilson(p, n, df))):
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        assert found == pytest.approx((centre - half, centre + half))


@pytest.mark.parametrize(("score", "nearest"), [(1.0076, 1), (-0.0076, 0)])
@pytest.mark.parametrize("n", [5, 102, 5000])
def test_wilson_holds_a_score_beyond_zero_and_one(score, nearest, n):
    expected = stats.binomtest(nearest * n, n).proportion_ci(0.95, method="wilson")
    assert wilson(score, n) == pytest.approx((min(expected.low, score), max(expected.high, score)), abs=1e-12)


def counts_of(resamples, n):
    """How often each item is in each resample: [resamples, n]."""
    return np.concatenate(list(resamples._blocks()))


def one_by_one(strata):
    """Draws of items that are no clusters."""
    return Resamples(np.arange(len(strata)), np.asarray(strata))


def test_draws_keep_the_number_per_stratum():
    strata = np.array(list("abacbbaaab"))
    counts = counts_of(one_by_one(strata), 10)
    assert counts.shape == (100_000, 10)
    for stratum in "abc":
        assert (counts[:, strata == stratum].sum(axis=1) == (strata == stratum).sum()).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(10), abs=0.05)


def test_draws_repeat_and_depend_on_the_seed():
    clusters, strata = np.arange(20), np.zeros(20)
    first, again, other = (counts_of(Resamples(clusters, strata, seed), 20) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_items_of_a_cluster_are_drawn_together():
    counts = counts_of(Resamples(np.array([0, 1, 0, 2, 1, 0]), np.array([0, 0, 1])), 6)
    assert (counts[:, [0, 1]] == counts[:, [2, 4]]).all()
    assert (counts[:, 0] == counts[:, 5]).all()
    assert (counts[:, 3] == 1).all()  # alone in its stratum
    assert (counts[:, 0] + counts[:, 1] == 2).all()


def test_interval_is_of_quantiles_and_leaves_out_what_is_undefined():
    draws = np.append(np.arange(1001.0), [np.nan] * 500)
    assert interval(draws) == pytest.approx((25, 975))
    assert all(map(math.isnan, interval(np.array([np.nan, np.nan]))))


@pytest.mark.parametrize("n", [4, 7, 10])
def test_permutation_p_is_scipys_exact_one(n):
    generator = np.random.default_rng(n)
    a, b = generator.integers(0, 2, (2, n, 6)).astype(float)
    weights = generator.dirichlet(np.ones(n))
    exact = [
        stats.permutation_test(
            (a[:, k], b[:, k]),
            lambda x, y, axis: ((x - y) * weights).sum(axis=axis),
            permutation_type="samples",
            n_resamples=np.inf,
        ).pvalue
        for k in range(6)
    ]
    error = 4 * np.sqrt(np.multiply(exact, np.subtract(1, exact)) / RESAMPLES) + 1 / RESAMPLES
    values = np.concatenate([a, b], axis=1) * weights[:, None]
    ours = permutation_p_values(values, np.arange(6), np.arange(6, 12))
    assert (np.abs(ours - exact) <= error).all()
    assert min(exact) < 0.7


def test_permutation_p_is_never_zero_and_one_without_difference():
    values = np.stack([np.ones(200), np.zeros(200), np.ones(200)], axis=1)
    ours = permutation_p_values(values / 200, np.array([0, 2, 1]), np.array([1, 0, 2]))
    assert ours.tolist() == pytest.approx([1 / 100_001, 1, 1 / 100_001])


@pytest.mark.parametrize("pairs", [1, 500, 2000])
def test_the_smallest_p_is_significant_among_all_pairs(pairs):
    values, zeros = np.stack([np.ones(40), np.zeros(40)], axis=1), np.zeros(pairs, int)
    p_values = permutation_p_values(values / 40, zeros, zeros + 1)
    assert (p_values > 0).all()
    assert holm(p_values).max() < 0.025


def test_permutation_p_of_large_samples_is_the_normal_one():
    values = (np.random.default_rng(5).random((2000, 4)) < [0.7, 0.7, 0.68, 0.66]).astype(float)
    first, second = np.array([0, 0, 0]), np.array([1, 2, 3])
    difference = values[:, first] - values[:, second]
    # Each item adds +d or -d, of variance d^2.
    expected = 2 * stats.norm.sf(np.abs(difference.sum(axis=0)) / np.sqrt((difference**2).sum(axis=0)))
    assert permutation_p_values(values / 2000, first, second) == pytest.approx(expected, abs=0.03)


def test_permutation_p_does_not_depend_on_the_other_pairs():
    values = np.random.default_rng(0).integers(0, 2, (60, 6)).astype(float)
    first, second = np.arange(5), np.arange(1, 6)
    alone = [permutation_p_values(values / 60, first[[k]], second[[k]])[0] for k in range(5)]
    assert permutation_p_values(values / 60, first, second).tolist() == pytest.approx(alone)


def test_holm_by_hand():
    # In order: 4 * 0.005, 3 * 0.01, 2 * 0.03, and 0.04, which may not fall below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]).tolist() == [1, 1]
    assert holm([]).tolist() == []


def test_kappa_is_scikit_learns():
    generator = np.random.default_rng(0)
    for _ in range(20):
        a, b = generator.integers(0, 2, (2, 12)).astype(float)
        assert kappa(a, b) == pytest.approx(cohen_kappa_score(a, b))


def test_kappa_by_hand():
    # agreement 3/4, chance 1/2 * 3/4 + 1/2 * 1/4 = 1/2
    assert kappa(np.array([1.0, 1, 0, 0]), np.array([1.0, 1, 1, 0])) == pytest.approx(0.5)
    assert kappa(np.array([1.0, 1]), np.array([1.0, 0])) == 0
    assert kappa(np.array([1.0, 1]), np.array([0.0, 0])) == 0


@pytest.mark.parametrize("everywhere", [0.0, 1.0])
def test_kappa_is_undefined_without_variation(everywhere):
    same = np.full(5, everywhere)
    assert math.isnan(kappa(same, same))
    assert np.isnan(one_by_one(np.zeros(5)).kappas(same[:, None], same[:, None])).all()


@pytest.mark.parametrize("clusters", [range(7), [0, 1, 1, 0, 2, 3, 1]])
def test_kappas_are_those_of_the_resampled_items(clusters):
    n = 7
    a, b = np.random.default_rng(3).integers(0, 2, (2, n, 2)).astype(float)
    resamples = Resamples(np.array(clusters), np.array([0, 0, 0, 0, 1, 1, 1])[: max(clusters) + 1])
    ours, counts = resamples.kappas(a, b), counts_of(resamples, n).astype(int)
    assert ours.shape == (100_000, 2)
    for column in range(2):
        for k in range(200):
            x, y = (np.repeat(values[:, column].astype(int), counts[k]) for values in (a, b))
            expected = cohen_kappa_score(x, y) if len({*x, *y}) == 2 else math.nan
            assert ours[k, column] == pytest.approx(expected, nan_ok=True)


def logit(p):
    return math.log(p / (1 - p))


def test_expected_calibration_error_by_hand():
    # Confidences 0.92 and 0.93 (one right) share the bin from 0.9 to 0.95; 0.62 (wrong) and 0.99 (right) are alone.
    margins = np.array([logit(0.92), -logit(0.93), -logit(0.62), logit(0.99)])
    error, confidence = expected_calibration_error(margins)
    assert confidence == pytest.approx((0.92 + 0.93 + 0.62 + 0.99) / 4)
    assert error == pytest.approx(0.5 * (0.925 - 0.5) + 0.25 * 0.62 + 0.25 * 0.01)
    # In one bin: accuracy 1/2 against the mean confidence
    assert expected_calibration_error(margins, bins=1)[0] == pytest.approx(confidence - 0.5)


def test_expected_calibration_error_at_the_ends():
    assert expected_calibration_error(np.zeros(3)) == pytest.approx((0.5, 0.5))  # a tie is wrong
    assert expected_calibration_error(np.array([1e5, 1e5])) == pytest.approx((0, 1))
    assert expected_calibration_error(np.array([-1e5])) == pytest.approx((1, 1))
