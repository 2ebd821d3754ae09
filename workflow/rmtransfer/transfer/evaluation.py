"""What the measures of a benchmark are made of: outcomes, the study's design, and estimates of means of accuracies."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import compress
from typing import Any

import numpy as np

from rmtransfer.study.names import AVERAGE
from rmtransfer.transfer.design import Cell, Design
from rmtransfer.transfer.outcomes import Outcomes, Scores
from rmtransfer.transfer.statistics import wilson
from rmtransfer.transfer.variance import Estimate, Items, SeedGrid, Variance, combined, own_seeds, with_seeds


class Sample:
    """The items that a mean is over, such as those of one section of a benchmark.

    Args:
        share: [all items], what each weighs; they sum to one.
        subsets: of all items, the strata that they are drawn within.
        clusters: of all items, those that belong together.

    Attributes:
        inside: [all items], which have a weight.
        share: [items], what each of these weighs.
        items: their subsets and clusters.
    """

    def __init__(self, share: np.ndarray, subsets: Sequence[str], clusters: Sequence[Any]) -> None:
        self.inside = share > 0
        self.share = share[self.inside]
        self._subsets = list(compress(subsets, self.inside))
        self.items = Items(self._subsets, list(compress(clusters, self.inside)))

    @classmethod
    def of(cls, outcomes: Outcomes, section: str) -> "Sample":
        """The items of one section of a benchmark, or of all of them."""
        return cls(outcomes.share(section), outcomes.items["subset"].tolist(), outcomes.items["cluster"].tolist())

    @cached_property
    def _one_by_one(self) -> Items:
        return Items(self._subsets, range(len(self._subsets)))

    def effective(self, values: np.ndarray) -> float:
        """The effective number of items of outcomes [items]: n where all weigh the same and are clusters of their own.

        1 / sum of w_i^2 over the design effect, which is the variance with clusters divided by that without (Kish, Survey
        Sampling, 1965, sections 8.2 and 11.7); of outcomes that do not vary, the effective number of clusters.
        """
        if len(self.items.strata) == len(self.share):
            return 1 / float(self.share @ self.share)
        whole, single = (i.variance(i.scores(values, self.share)).value for i in (self.items, self._one_by_one))
        parts = self.items.parts(np.ones(len(self.share)), self.share)
        return single / whole / float(self.share @ self.share) if whole > 0 and single > 0 else 1 / float(parts @ parts)


class Section:
    """Means of cells over a sample, such as accuracies in one section of a benchmark, and how certain their sums are.

    Args:
        values: cell to values [all items, seeds].

    Attributes:
        accuracies: cell to means [seeds].
        grids: base model to what seeds do to it; without those that have one seed.
    """

    def __init__(self, sample: Sample, values: Mapping[Cell, np.ndarray], design: Design) -> None:
        self._sample = sample
        share = sample.share
        self._values = {cell: these[sample.inside] for cell, these in values.items()}
        self.accuracies = {cell: share @ values for cell, values in self._values.items()}
        self._scores = {cell: self._sample.items.scores(values, share) for cell, values in self._values.items()}
        self._means = {cell: scores.mean(axis=1) for cell, scores in self._scores.items()}
        self.grids: dict[str, SeedGrid] = {}
        for base in design.bases:
            training, languages = design.grid(base, self._values)
            if training and languages and len(self.accuracies[base, training[0], languages[0]]) > 1:
                accuracies, scores = (
                    np.stack([np.stack([cells[base, t, e] for e in languages], axis=-2) for t in training], axis=-3)
                    for cells in (self.accuracies, self._scores)
                )
                self.grids[base] = SeedGrid(accuracies, scores, self._sample.items)

    def estimate(self, contrast: Mapping[Cell, float]) -> Estimate:
        """A sum of cells' accuracies, means over seeds, each times its coefficient."""
        value = sum(float(c * self.accuracies[cell].mean()) for cell, c in contrast.items())
        items = self._sample.items.variance(self._sum(self._means, contrast))
        seeds: list[Variance] = []
        for base in dict.fromkeys(cell[0] for cell in contrast):
            mine = {cell: c for cell, c in contrast.items() if cell[0] == base}
            k = len(self.accuracies[next(iter(mine))])
            if k > 1:
                # k seeds were averaged; models of several bases share none.
                seeds += [Variance(part.value / k, part.df) for part in self._one_seed(base, mine)]
        counts = [len(self.accuracies[cell]) for cell in contrast]
        return Estimate(value, with_seeds(items, seeds), min(counts), max(counts) > 1, len(self._sample.share))

    def mean_difference(self, pairs: Sequence[tuple[Cell, Cell]]) -> Estimate:
        """The mean over pairs of cells of the first one's accuracy minus the second one's."""
        contrast: dict[Cell, float] = {}
        for first, second in pairs:
            contrast[first] = contrast.get(first, 0) + 1 / len(pairs)
            contrast[second] = contrast.get(second, 0) - 1 / len(pairs)
        return self.estimate(contrast)

    def of_another_seed(self, base: str, contrast: Mapping[Cell, float]) -> Variance:
        """The variance that one seed adds to a contrast of a base's cells; below 0 where it is lost in the items'."""
        return combined(self._one_seed(base, contrast))

    def _one_seed(self, base: str, contrast: Mapping[Cell, float]) -> list[Variance]:
        if base in self.grids:
            found = self.grids[base].variance({(train, language): c for (_, train, language), c in contrast.items()})
            if found is not None:
                return found
        return own_seeds(self._sum(self.accuracies, contrast), self._sum(self._scores, contrast), self._sample.items)

    def level(self, cell: Cell) -> tuple[Estimate, tuple[float, float]]:
        """A cell's accuracy and its 95 % interval: Wilson's, with as many items as give the estimate's variance.

        So an accuracy near 1 has an interval that stays below it. Within two items of 0 or 1 outcomes hardly vary, and the
        number of items is bounded by the sample's own; p (1 - p) is there that of Agresti and Coull's share (The American
        Statistician 52, 1998).
        """
        estimate = self.estimate({cell: 1})
        p, (variance, df) = estimate.value, estimate.variance
        effective = self._sample.effective(self._values[cell].mean(axis=1))
        least = 2 * (effective + 2) / (effective + 4) ** 2
        if p * (1 - p) >= least and variance > 0:
            effective = p * (1 - p) / variance
        elif variance > 0:
            effective = min(effective, least / variance)
        return estimate, wilson(p, effective, df if variance > 0 else np.inf)

    def parts(self, cells: Iterable[Cell]) -> np.ndarray:
        """What each cluster of items adds to each cell's accuracy [clusters, cells]."""
        values = np.stack([self._values[cell].mean(axis=1) for cell in cells], axis=1)
        return self._sample.items.parts(values, self._sample.share)

    @staticmethod
    def _sum(cells: Mapping[Cell, np.ndarray], contrast: Mapping[Cell, float]) -> np.ndarray:
        return np.sum([c * cells[cell] for cell, c in contrast.items()], axis=0)


class Evaluation:
    """What the measures of a benchmark are made of.

    Attributes:
        scores: scorer and evaluation language to rows of a score file.
        contaminated: ids of rows whose prompts are also in the training data.
    """

    def __init__(
        self,
        scores: Scores,
        sections: str,
        design: Design,
        contaminated: Collection[str] = (),
        ties_half: Collection[str] = (),
    ) -> None:
        self.scores, self.design, self.contaminated = scores, design, contaminated
        self.outcomes = Outcomes(scores, sections, ties_half)

    @cached_property
    def average(self) -> Section:
        """Accuracies on average over sections."""
        return self.section(AVERAGE)

    def section(self, name: str) -> Section:
        """Accuracies in one section."""
        return Section(Sample.of(self.outcomes, name), self.outcomes.cells, self.design)
