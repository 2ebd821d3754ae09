"""Variances of items and seeds against SciPy, statsmodels and values worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.anova import anova_lm

from rmtransfer.transfer.variance import (
    Estimate,
    Items,
    SeedGrid,
    Variance,
    combined,
    components,
    own_seeds,
    with_seeds,
)


def equal(n):
    return np.full(n, 1 / n)


def one_by_one(subsets):
    return Items(subsets, range(len(subsets)))


def variance_of(values, items, weights):
    return items.variance(items.scores(np.asarray(values, float), weights))


def test_degrees_of_freedom_are_welchs():
    a, b = np.random.default_rng(0).normal(size=(2, 9)) * [[1], [4]]
    b = b[:4]
    ours = combined([Variance(a.var(ddof=1) / 9, 8), Variance(b.var(ddof=1) / 4, 3)])
    theirs = stats.ttest_ind(a, b, equal_var=False)
    assert ours.df == pytest.approx(theirs.df)
    assert (a.mean() - b.mean()) / math.sqrt(ours.value) == pytest.approx(theirs.statistic)


def test_what_is_taken_away_leaves_one_degree_of_freedom():
    """(1 + 2 - 1.9)^2 / (1 / 30 + 4 / 1 + 1.9^2 / 40) is 0.29."""
    assert combined([Variance(1, 30), Variance(2, 1), Variance(-1.9, 40)]) == (pytest.approx(1.1), 1)


def test_nothing_that_varies_has_no_variance():
    assert combined([Variance(0, 3)]) == (0, math.inf)
    assert Estimate(0.5, combined([]), 1, False, 4).interval() == (0.5, 0.5)


def test_interval_and_p_of_one_stratum_are_those_of_the_paired_t_test():
    a, b = np.random.default_rng(1).integers(0, 2, (2, 40)).astype(float)
    variance = variance_of(a - b, one_by_one(["chat"] * 40), equal(40))
    estimate = Estimate((a - b).mean(), variance, 1, False, 40)
    test = stats.ttest_rel(a, b)
    assert estimate.interval() == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert estimate.p_value() == pytest.approx(test.pvalue)


def test_an_interval_that_ends_at_zero_includes_it():
    """0.1 + 0.2 - 0.3 is not 0 in floating point."""
    low, high = Estimate(0.3 - 0.1 - 0.2, Variance(0, math.inf), 1, False, 4).interval()
    assert (low, high) == (0, 0)
    assert math.copysign(1, low) == 1


def test_strata_give_the_sum_of_their_variances():
    generator = np.random.default_rng(2)
    a, b = generator.normal(size=30), generator.normal(3, 2, 10)
    weights = np.repeat([0.25 / 30, 0.75 / 10], [30, 10])
    found = variance_of(np.append(a, b), one_by_one(["a"] * 30 + ["b"] * 10), weights)
    parts = 0.25**2 * a.var(ddof=1) / 30, 0.75**2 * b.var(ddof=1) / 10
    assert found.value == pytest.approx(sum(parts))
    assert found.df == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 / 29 + parts[1] ** 2 / 9))


@pytest.mark.parametrize("copies", [2, 6])
def test_copies_of_an_item_in_one_cluster_add_nothing(copies):
    n = 50
    values = np.random.default_rng(3).integers(0, 2, n).astype(float)
    once = variance_of(values, one_by_one(["a"] * n), equal(n))
    many = np.tile(values, copies)
    clustered = variance_of(many, Items(["a"] * n * copies, list(range(n)) * copies), equal(n * copies))
    assert clustered == pytest.approx(once)
    # Taken for items of their own, they make the interval sqrt(copies) too narrow.
    wrong = variance_of(many, one_by_one(["a"] * n * copies), equal(n * copies))
    assert once.value / wrong.value == pytest.approx(copies, rel=0.03)


def test_subsets_that_share_clusters_are_one_stratum():
    # Two languages of code with the same three problems, weighing 1/2 each; and four of math.
    items = Items(["py"] * 3 + ["js"] * 3 + ["math"] * 4, ["1", "2", "3", "3", "1", "2", *"abcd"])
    assert items.clusters.tolist() == [0, 1, 2, 2, 0, 1, 3, 4, 5, 6]
    assert items.strata.tolist() == [0] * 3 + [1] * 4
    weights = np.array([1 / 12] * 6 + [1 / 8] * 4)
    py, js = np.array([1.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.0])  # problems 1, 2, 3 and 3, 1, 2
    values = np.array([*py, *js, 1, 1, 1, 1])
    # Deviations 2/3, -1/3, -1/3 and, of problems 1, 2, 3, 1/3, -2/3, 1/3: 1, -1, 0 times 1/12.
    assert items.scores(values, weights) == pytest.approx([1 / 12, -1 / 12, 0, 0, 0, 0, 0])
    assert variance_of(values, items, weights) == pytest.approx((3 / 2 * 2 / 144, 2))


def test_clusters_of_one_are_no_clusters_bit_for_bit():
    generator = np.random.default_rng(4)
    subsets, values = list("abcde") * 20, generator.integers(0, 2, (100, 7)).astype(float)
    weights = generator.dirichlet(np.ones(100))
    named = Items(subsets, [f"cluster {i}" for i in generator.permutation(100)])
    plain = one_by_one(subsets)
    assert (named.scores(values, weights) == plain.scores(values, weights)).all()
    assert named.variance(named.scores(values[:, 0], weights)) == plain.variance(plain.scores(values[:, 0], weights))


def test_a_stratum_of_one_is_measured_from_the_mean_of_all():
    values, weights = np.array([1.0, 0.0, 1.0, 1.0, 0.0]), equal(5)
    found = variance_of(values, one_by_one(["a"] * 4 + ["b"]), weights)
    assert found.value == pytest.approx(0.8**2 * 0.25 / 4 + (0.2 * (0 - 0.6)) ** 2)


def test_one_item_alone_says_nothing_of_others():
    assert math.isnan(variance_of([1.0], one_by_one(["a"]), equal(1)).value)
    assert all(map(math.isnan, Estimate(1.0, variance_of([1.0], one_by_one(["a"]), equal(1)), 1, False, 1).interval()))


def grid_of(z):
    """A grid of outcomes [N, T, E, K] whose items all weigh the same."""
    n = len(z)
    items = one_by_one(["a"] * n)
    return SeedGrid(z.mean(axis=0), items.scores(z, equal(n)), items), items


def outcomes(n=12, t=4, e=3, k=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, t, e, k))


def test_mean_squares_are_those_of_statsmodels():
    z = outcomes()
    accuracies = z.mean(axis=0)
    frame = pd.DataFrame(
        [(t, e, k, a) for (t, e, k), a in np.ndenumerate(accuracies)], columns=["t", "e", "k", "accuracy"]
    )
    table = anova_lm(smf.ols("accuracy ~ C(t) * C(e) + C(k) + C(k):C(t) + C(k):C(e)", frame).fit())
    rows = table.loc[["C(k)", "C(k):C(t)", "C(k):C(e)", "Residual"]]
    grid, _ = grid_of(z)
    assert grid.df.tolist() == rows["df"].tolist()
    assert grid.mean_squares == pytest.approx((rows["sum_sq"] / rows["df"]).to_numpy())


@pytest.mark.parametrize(
    "contrast",
    [
        {("0", "0"): 1},
        {("0", "1"): 1, ("2", "1"): -1},
        {("0", "1"): 0.5, ("1", "1"): -0.5, ("0", "2"): 0.5, ("2", "2"): -0.5},
        {(str(t), "0"): 0.25 for t in range(4)},
    ],
)
def test_a_contrast_has_the_variance_of_its_components(contrast):
    """Mean squares put to what components of variance give them, S, TS, ES and TES, item by item."""
    s, ts, es, tes = 5.0, 3.0, 2.0, 1.0
    grid, _ = grid_of(outcomes())
    grid.mean_squares = np.array([tes + 3 * ts + 4 * es + 12 * s, tes + 3 * ts, tes + 4 * es, tes])
    grid.of_items = np.zeros(4)
    c = np.zeros((4, 3))
    for (t, e), value in contrast.items():
        c[int(t), int(e)] = value
    expected = s * c.sum() ** 2 + ts * (c.sum(1) ** 2).sum() + es * (c.sum(0) ** 2).sum() + tes * (c**2).sum()
    assert sum(part.value for part in grid.variance(contrast)) == pytest.approx(expected)


def test_a_grid_of_one_pair_is_the_pair_itself():
    z = outcomes(t=2, e=1)
    grid, items = grid_of(z)
    difference = z[:, 0, 0] - z[:, 1, 0]
    own = own_seeds(difference.mean(axis=0), items.scores(difference, equal(12)), items)
    pooled = grid.variance({("en", "es"): 1, ("es", "es"): -1})
    assert [part.value for part in pooled] == pytest.approx([part.value for part in own])
    assert [part.df for part in pooled] == [part.df for part in own] == [2, 2 * 11]
    assert own[0].value == pytest.approx(difference.mean(axis=0).var(ddof=1))
    # What items make of the spread over seeds: the variance of each seed's mean, those of the items' own means taken away.
    residuals = difference - difference.mean(axis=1, keepdims=True)
    residuals -= residuals.mean(axis=0)
    assert own[1].value == pytest.approx(-(residuals**2).sum() / 2 / 11 / 12)


def test_what_items_make_of_the_mean_squares_is_taken_away():
    """Outcomes that seeds change item by item, and not on average: nothing is left."""
    rest = [
        sum(part.value for part in grid_of(outcomes(n=20, seed=seed))[0].variance({("0", "0"): 1}))
        for seed in range(400)
    ]
    assert np.mean(rest) == pytest.approx(0, abs=3 * np.std(rest) / 20)
    assert np.std(rest) / 20 < 0.1 / 20  # against a variance of 1 / 20 of the accuracies themselves


def test_a_training_set_off_the_grid_is_one_more_of_the_same():
    grid, _ = grid_of(outcomes())
    on, off = ({(train, "1"): 1, ("2", "1"): -1} for train in ("0", "mix"))
    assert grid.variance(on) == grid.variance(off)
    assert grid_of(outcomes(t=1))[0].variance(off) is None


def test_seeds_take_nothing_from_the_items():
    items = Variance(2.0, 30)
    assert with_seeds(items, [Variance(0.5, 2), Variance(-0.8, 60)]) == items
    assert with_seeds(items, [Variance(1.5, 4), Variance(-0.5, 60)]) == combined(
        [items, Variance(1.5, 4), Variance(-0.5, 60)]
    )


def test_a_part_of_few_degrees_of_freedom_has_its_own_quantile():
    """Four fifths of the variance on two degrees of freedom: t = w t(2) + (1 - w) t(30), w = ((0.8 - 0.3) / 0.7) ** 0.5."""
    estimate = Estimate(0.0, with_seeds(Variance(1e-4, 30), [Variance(4e-4, 2)]), 3, True, 60)
    weight = math.sqrt(0.5 / 0.7)
    half = (weight * 4.302653 + (1 - weight) * 2.042272) * math.sqrt(5e-4)
    assert estimate.interval() == pytest.approx((-half, half), abs=1e-7)
    # Beyond what items and everything else leave, the part is all there is.
    assert with_seeds(Variance(1, 30), [Variance(9, 2), Variance(-1.5, 60)]).df == pytest.approx(2)
    # A small share on one degree of freedom is none of its business.
    assert with_seeds(Variance(95, 30), [Variance(5, 1)]).df == pytest.approx(30)


@pytest.mark.parametrize(("df", "low", "high"), [(1, 0.935, 0.965), (2, 0.947, 0.953), (3, 0.947, 0.953)])
def test_intervals_hold_the_truth_whatever_the_seeds_share_is(df, low, high):
    """Exactly, over the distribution of the seeds' mean square; Satterthwaite's t alone goes down to 0.87, 0.92 and 0.935."""
    squares = stats.chi2.ppf((np.arange(400) + 0.5) / 400, df) / df
    for share in (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.995):
        held = []
        for square in squares:
            variance = with_seeds(Variance(1 - share, 1e6), [Variance(share * square, df)])
            half = stats.t.ppf(0.975, variance.df) * math.sqrt(variance.value)
            held.append(2 * stats.norm.cdf(half) - 1)
        assert low < np.mean(held) < high, share


def test_components_are_those_of_a_mixed_model():
    """Where none is estimated below 0, restricted maximum likelihood on balanced data is the analysis of variance."""
    generator = np.random.default_rng(7)
    a, b = generator.normal(0, 2, (12, 1)), generator.normal(0, 1.5, (1, 10))
    values = a + b + generator.normal(0, 1, (12, 10))
    found = components(values, ("train", "item"))
    frame = pd.DataFrame([(i, j, v) for (i, j), v in np.ndenumerate(values)], columns=["train", "item", "outcome"])
    model = smf.mixedlm(
        "outcome ~ 1",
        frame.assign(all=0),
        groups="all",
        re_formula="0",
        vc_formula={"train": "0 + C(train)", "item": "0 + C(item)"},
    ).fit()
    theirs = dict(zip(model.model.exog_vc.names, model.vcomp, strict=True))
    assert found["train",].value == pytest.approx(theirs["train"], rel=1e-3)
    assert found["item",].value == pytest.approx(theirs["item"], rel=1e-3)
    assert found["train", "item"].value == pytest.approx(model.scale, rel=1e-3)
    assert [component.df for component in found.values()] == [11, 9, 99]


def test_components_are_unbiased_for_known_ones():
    sizes, names = (5, 4, 6, 3), ("t", "e", "i", "s")
    truth = {("t",): 1.0, ("i",): 4.0, ("s",): 2.0, ("t", "s"): 0.5, ("e", "i", "s"): 0.7, names: 1.0}
    generator = np.random.default_rng(8)
    draws = []
    for _ in range(600):
        values = np.zeros(sizes)
        for effect, variance in truth.items():
            shape = [n if name in effect else 1 for n, name in zip(sizes, names, strict=True)]
            values = values + generator.normal(0, math.sqrt(variance), shape)
        draws.append([component.value for component in components(values, names).values()])
    found = dict(zip(components(values, names), zip(np.mean(draws, 0), np.std(draws, 0), strict=True), strict=True))
    assert len(found) == 15
    for effect, (mean, spread) in found.items():
        assert mean == pytest.approx(truth.get(effect, 0), abs=4 * spread / math.sqrt(600)), effect


def test_factors_of_one_level_have_no_component():
    values = np.random.default_rng(9).normal(size=(3, 1, 5))
    assert list(components(values, ("t", "e", "i"))) == [("t",), ("i",), ("t", "i")]
