"""How far a statistic of held-out instructions would move with other instructions and other seeds.

Shapes: N instructions, K seeds, D draws.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from rmtransfer.transfer.design import Design
from rmtransfer.transfer.evaluation import Sample, Section
from rmtransfer.transfer.statistics import LEVEL, interval, wilson

# Weights of instructions [D, N] to what comes of each draw [D]; NaN where a draw leaves it undefined.
Statistic = Callable[[np.ndarray], np.ndarray]

DRAWS = 4_000
LEAST = 8  # instructions, below which no interval is pretended
SHARE, CHANGE, LENGTH, ANY = (0.0, 1.0), (-1.0, 1.0), (0.0, np.inf), (-np.inf, np.inf)  # what values may be
_NOTHING = 1e-24
_NAME = "selector"


class Found(NamedTuple):
    """A value and its 95 % interval, NaN where there is none."""

    value: float
    low: float
    high: float


def mean(values: np.ndarray) -> Statistic:
    """The mean of values [N]."""
    return ratio(values, np.ones(len(values)))


def ratio(above: np.ndarray, below: np.ndarray) -> Statistic:
    """The sum of one number [N] over that of another."""

    def statistic(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = (weights @ above) / (weights @ below)
        return np.where(np.isfinite(shares), shares, np.nan)

    return statistic


def difference(first: Statistic, second: Statistic) -> Statistic:
    """One statistic minus another one of the same instructions."""
    return lambda weights: first(weights) - second(weights)


class Draws:
    """Bootstrap draws of instructions, the same for all that is compared and for all languages.

    An instruction is a cluster: its answers in all languages, of all seeds, with all judges are drawn together. 4,000 draws
    with a fixed seed; a bound's chance of others is then 2 % of the interval's width.

    An interval is the percentile interval of the draws, each bound moved away from the value by one factor,

        t sqrt(V) / (z sqrt(V_items (N - 1) / N)),

    where V_items is the variance over instructions (N - 1 in the denominator), of which a bootstrap sees (N - 1) / N; V adds what
    another seed would do, and t has the degrees of freedom of V, see :func:`rmtransfer.transfer.variance.with_seeds`. With one
    seed it is sqrt(N / (N - 1)) t / z: 1.12 for 16 instructions, 1.00 for 805, as in Hesterberg's expanded percentile interval
    (The American Statistician 69, 2015, section 5), which the plain one is too narrow without. What seeds do is pooled over the
    languages of the statistic at hand, and over nothing else, so that no number depends on what else is in the study. What is no
    mean is linearised for V by the jackknife.

    Attributes:
        n: instructions.
        counts: how often each is drawn [4,000, N].
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), DRAWS).astype(float)

    def estimate(
        self,
        statistics: Mapping[str, Sequence[Statistic]],
        contrast: Mapping[str, float],
        bounds: tuple[float, float] = ANY,
    ) -> Found:
        """A sum over languages, each times its coefficient, of the mean over seeds of a statistic.

        A share without any spread, such as 0 of 16, has Wilson's interval.

        Args:
            statistics: language to statistics by seed, the same seeds in all.
            bounds: what the value may be, for the interval.
        """
        ones = np.ones((1, self.n))
        values = {k: np.concatenate([s(ones) for s in of]) for k, of in statistics.items()}
        value = float(sum(c * values[k].mean() for k, c in contrast.items()))
        if self.n < LEAST or np.isnan(value):
            return Found(value, np.nan, np.nan)
        draws = sum(c * np.mean([s(self.counts) for s in statistics[k]], axis=0) for k, c in contrast.items())
        assert isinstance(draws, np.ndarray)
        low, high = interval(draws)
        if len(next(iter(values.values()))) == 1:
            widening, none = float(stdtrit(self.n - 1, (1 + LEVEL) / 2)) * np.sqrt(self.n / (self.n - 1)), 0.0
            widening /= ndtri((1 + LEVEL) / 2)
        else:
            widening, none = self._seeds(statistics, values, contrast)
        if high - low < 1e-9:
            if bounds == SHARE and not none:
                return Found(value, *wilson(value, self.n))
            low, high = value - none, value + none
        else:
            low, high = value + widening * (low - value), value + widening * (high - value)
        return Found(value, *(float(np.clip(bound, *bounds)) for bound in (low, high)))

    def _seeds(
        self,
        statistics: Mapping[str, Sequence[Statistic]],
        values: Mapping[str, np.ndarray],
        contrast: Mapping[str, float],
    ) -> tuple[float, float]:
        """The factor of the percentile interval with several seeds, and half of what seeds alone make."""
        without = np.ones((self.n, self.n)) - np.eye(self.n)
        cells = {}
        for language, of in statistics.items():
            if np.isnan(values[language]).any():
                continue
            left = np.stack([s(without) for s in of], axis=1)
            moves = (self.n - 1) * (np.nanmean(left, axis=0) - left)
            # One instruction without which nothing is defined moves nothing that is known.
            cells["", _NAME, language] = values[language] + np.nan_to_num(moves)
        section = Section(
            Sample(np.full(self.n, 1 / self.n), ["instructions"] * self.n, range(self.n)),
            cells,
            Design("", [""], {name: [name] for name in (_NAME, *statistics)}),
        )
        found = section.estimate({("", _NAME, language): c for language, c in contrast.items()}).variance
        half = float(stdtrit(found.df, (1 + LEVEL) / 2)) * np.sqrt(found.value)
        moved = sum(c * cells["", _NAME, language].mean(axis=1) for language, c in contrast.items())
        of_draws = np.var(moved) / self.n
        return (half / (ndtri((1 + LEVEL) / 2) * np.sqrt(of_draws)) if of_draws > _NOTHING else 1.0), half
