"""A linear probe: the reward that hidden states of preference pairs already hold, before any training."""

import numpy as np


def fit_probe(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """The weights of a score head that tells chosen from rejected answers by their hidden states.

    A Bradley-Terry model, which is a logistic regression on the differences of states without an intercept. Its L2 penalty is
    the authors' prior on a score head: with each dimension divided by the root mean square of its differences, weights are
    from N(0, 1 / sqrt(hidden)), the second parameter being the standard deviation, so that before any pair is seen a pair's
    margin has a standard deviation of 1. In scikit-learn's terms C = 1 / hidden. The optimum is unique: no seed decides it.

    Args:
        chosen: states [pairs, hidden]; so is ``rejected``.

    Returns:
        weights [hidden] in fp64, for states as they were given; 0 where no two answers differ.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    differences = np.asarray(chosen, np.float64) - rejected
    scale = np.sqrt((differences**2).mean(axis=0))
    scale[scale == 0] = 1
    differences /= scale
    hidden = differences.shape[1]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Negative log posterior, and its gradient."""
        margins = differences @ weights
        value = np.logaddexp(0, -margins).sum() + hidden * weights @ weights / 2
        return value, hidden * weights - expit(-margins) @ differences

    exact = {"maxiter": 10_000, "ftol": 0, "gtol": 1e-8 * len(differences)}
    return minimize(loss, np.zeros(hidden), jac=True, method="L-BFGS-B", options=exact).x / scale
