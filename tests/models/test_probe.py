"""The probe against scikit-learn's logistic regression, and what makes it a head to start from."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from rmtransfer.models.probe import fit_probe


@pytest.fixture
def states():
    """Chosen and rejected states [40, 12] whose dimensions have scales from 0.01 to 1,000."""
    draw = np.random.default_rng(0)
    scales = np.logspace(-2, 3, 12)
    rejected = draw.normal(5, 1, (40, 12))
    return (rejected + draw.normal(0.3, 1, (40, 12))) * scales, rejected * scales


def test_equals_scikit_learn(states):
    differences = states[0] - states[1]
    scale = np.sqrt((differences**2).mean(axis=0))
    signs = np.where(np.arange(40) % 2, 1, -1)  # either order of a pair says the same, and scikit-learn wants both
    logistic = LogisticRegression(C=1 / 12, fit_intercept=False, tol=1e-12, max_iter=10_000)
    logistic.fit(signs[:, None] * differences / scale, signs)
    np.testing.assert_allclose(fit_probe(*states), logistic.coef_[0] / scale, rtol=1e-5, atol=0)


def test_a_pair_in_the_other_order_turns_the_sign(states):
    np.testing.assert_allclose(fit_probe(*states), -fit_probe(*states[::-1]), rtol=1e-6)


def test_the_order_of_pairs_and_the_scale_of_states_decide_nothing(states):
    chosen, rejected = states
    margins = (chosen - rejected) @ fit_probe(chosen, rejected)
    np.testing.assert_allclose(fit_probe(chosen[::-1], rejected[::-1]), fit_probe(chosen, rejected), rtol=1e-6)
    units = np.logspace(2, -2, 12)
    np.testing.assert_allclose((chosen - rejected) * units @ fit_probe(chosen * units, rejected * units), margins)


def test_states_in_single_precision_and_a_dimension_that_says_nothing(states):
    chosen, rejected = (np.c_[side, np.ones(40)].astype(np.float32) for side in states)
    weights = fit_probe(chosen, rejected)
    assert weights.dtype == np.float64
    assert weights[-1] == 0
    np.testing.assert_array_equal(fit_probe(rejected, rejected), np.zeros(13))
