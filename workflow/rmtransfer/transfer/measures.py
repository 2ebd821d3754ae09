"""The tables of a benchmark, one function each: what it holds and how its rows come out of the scores.

A table is a function with :func:`measure` above it: its name is the table's, the first line of its docstring says what is in
it, its columns are described there and nowhere else. Nothing heavy is imported before a function runs, because rules are made
from ``MEASURES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from rmtransfer.study.names import ALL, AVERAGE, TRANSLATE_TEST
from rmtransfer.study.sections import item_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from rmtransfer.transfer.design import Model
    from rmtransfer.transfer.evaluation import Evaluation
    from rmtransfer.transfer.outcomes import Outcomes

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Measure:
    """One table of a benchmark.

    Attributes:
        about: what is in it, in a line.
        columns: name to what it holds, in the table's order.
        rows: gives the table's rows, in the order of ``columns``.
    """

    about: str
    columns: Mapping[str, str]
    rows: Callable[[Evaluation], Iterable[Row]]


MEASURES: dict[str, Measure] = {}


def measure(columns: Mapping[str, str]) -> Callable[[Callable[[Evaluation], Iterable[Row]]], Any]:
    """Enter a function into ``MEASURES`` under its name."""

    def enter(rows: Callable[[Evaluation], Iterable[Row]]) -> Callable[[Evaluation], Iterable[Row]]:
        MEASURES[rows.__name__] = Measure((rows.__doc__ or "").partition("\n")[0], columns, rows)
        return rows

    return enter


_MODEL = {
    "base_model": "base model that it was trained from; of a model of others its name",
    "train_language": "language or mixture that it was trained in, translate-test, or - for a model of others",
}
_SCORER = {**_MODEL, "seed": "seed that it was trained with; 0 for a model of others"}
_LANGUAGE = {"eval_language": "language of the benchmark's texts"}
_SECTION = {"section": "section of the benchmark, or average: the plain mean of those that have rows"}
_ITEMS_AND_SEEDS = "items and seeds; over items alone where there is one seed"
_ACCURACY = {
    **_SCORER,
    **_LANGUAGE,
    **_SECTION,
    "accuracy": "weighted mean outcome of the section's items, from 0 to 1; Ties of RewardBench 2 goes from -0.01 to 1.01",
    "ci_low": "lower bound of its 95 % Wilson interval over items, at their effective number",
    "ci_high": "upper bound of that interval",
    "n": "items of the section",
}


@measure(_ACCURACY)
def transfer(evaluation: Evaluation) -> Iterator[Row]:
    """Accuracy of each scorer in each language and section."""
    yield from _accuracies(evaluation.outcomes)


@measure(_ACCURACY)
def transfer_clean(evaluation: Evaluation) -> Iterator[Row]:
    """The same over the items that hold no row whose prompt is also in the training data."""
    from rmtransfer.transfer.outcomes import Outcomes

    scores, sections = evaluation.scores, evaluation.outcomes.sections
    ids = next(iter(scores.values()))["id"]
    items = ids.map(item_of) if sections == "rewardbench2" else ids
    clean = ~items.isin(set(items[ids.isin(set(evaluation.contaminated))])).to_numpy()
    if clean.any():
        yield from _accuracies(
            Outcomes({key: rows[clean] for key, rows in scores.items()}, sections, evaluation.outcomes.ties_half)
        )


def _accuracies(outcomes: Outcomes) -> Iterator[Row]:
    from rmtransfer.transfer.evaluation import Sample
    from rmtransfer.transfer.statistics import wilson

    samples = {section: Sample.of(outcomes, section) for section in outcomes.names}
    for (scorer, language), values in outcomes.values.items():
        for section, sample in samples.items():
            mine = values[sample.inside]
            accuracy = float(sample.share @ mine)
            yield *scorer, language, section, accuracy, *wilson(accuracy, sample.effective(mine)), len(mine)


@measure(
    {
        "base_model": "model whose tokenizer counts",
        **_LANGUAGE,
        "subset": "subset of the benchmark, or average, which is weighted like the one in transfer",
        "accuracy": "mean outcome, from 0 to 1, of the rule that the longer answer is better; ties are wrong",
        "n": "items of the subset",
    }
)
def length_baseline(evaluation: Evaluation) -> Iterator[Row]:
    """How often "the longer answer, in tokens, is better" is right, for each tokenizer."""
    from rmtransfer.transfer.outcomes import item_outcomes, row_weights

    sections = evaluation.outcomes.sections
    counted: set[tuple[str, str]] = set()
    for ((base, train, _), language), rows in evaluation.scores.items():
        # Translate-test counts the tokens of another text.
        if (base, language) in counted or rows["tokens_chosen"].isna().any() or train == TRANSLATE_TEST:
            continue
        counted.add((base, language))
        lengths = {"reward_chosen": rows["tokens_chosen"], "reward_rejected": rows["tokens_rejected"]}
        items = item_outcomes(rows.assign(**lengths), sections)
        for subset, these in items.groupby("subset", sort=True):
            yield base, language, subset, these["outcome"].mean(), len(these)
        average = float(row_weights(items["subset"], sections) @ items["outcome"].to_numpy(float))
        yield base, language, AVERAGE, average, len(items)


@measure(
    {
        **_SECTION,
        "chance": "expected accuracy, from 0 to 1, of rewards drawn at random",
        "n": "items of the section",
    }
)
def chance(evaluation: Evaluation) -> Iterator[Row]:
    """What rewards drawn at random are expected to score in each section."""
    from rmtransfer.transfer.outcomes import chance_outcomes

    outcomes = evaluation.outcomes
    expected = chance_outcomes(next(iter(evaluation.scores.values())), outcomes.sections)
    values = expected.loc[outcomes.items["id"]].to_numpy(float)
    for section in outcomes.names:
        share = outcomes.share(section)
        yield section, float(share @ values), int((share > 0).sum())


@measure(
    {
        **_MODEL,
        **_LANGUAGE,
        **_SECTION,
        "mean": "accuracy, mean over seeds, from 0 to 1",
        "sd": "standard deviation of the accuracy over seeds; empty for one seed",
        "ci_low": f"lower bound of the mean's 95 % interval over {_ITEMS_AND_SEEDS}",
        "ci_high": "upper bound of that interval",
        "seeds": "number of seeds",
        "df": "degrees of freedom of the interval's variance; empty where nothing varies",
        "n": "items of the section",
    }
)
def seeds(evaluation: Evaluation) -> Iterator[Row]:
    """Mean and spread of the accuracy over seeds."""
    outcomes = evaluation.outcomes
    rows: dict[tuple[str, str], list[Row]] = {}
    for name in outcomes.names:
        section = evaluation.average if name == AVERAGE else evaluation.section(name)
        for cell, accuracies in section.accuracies.items():
            base, train, language = cell
            spread = float(accuracies.std(ddof=1)) if len(accuracies) > 1 else None
            estimate, interval = section.level(cell)
            df = estimate.variance.df if estimate.variance.value > 0 else None
            row = (base, train, language, name, estimate.value, spread, *interval, estimate.seeds, df, estimate.n)
            rows.setdefault((language, name), []).append(row)
    for language in outcomes.languages:
        for name in outcomes.names:
            yield from rows[language, name]


@measure(
    {
        **_LANGUAGE,
        "base_a": "base model of the first model; of a model of others its name",
        "train_a": "language, mixture or part that the first model was trained in, translate-test or -",
        "base_b": "base model of the second model",
        "train_b": "what the second model was trained in",
        "family": "primary: a is the source's model and b, of the same base, the target language's own; in-language: another "
        "training set without the language against the same b; other: any other two",
        "difference": "average accuracy of a minus that of b, means over seeds, from -1 to 1",
        "ci_low": f"lower bound of its 95 % interval over {_ITEMS_AND_SEEDS}",
        "ci_high": "upper bound of that interval",
        "p_value": "two-sided, of the t test over items and seeds that the interval belongs to; p_items where there is one seed",
        "p_holm": "the same, adjusted by Holm's method within the family, over all languages",
        "p_items": "two-sided, of a paired permutation test over items: about these very models, not about their seeds",
        "n": "items",
        "seeds": "seeds of the model that has fewer",
    }
)
def significance(evaluation: Evaluation) -> Iterator[Row]:
    """The difference in average accuracy of every two models in every language, and whether it is beyond chance."""
    import numpy as np

    from rmtransfer.transfer.statistics import holm, permutation_p_values

    average, design = evaluation.average, evaluation.design
    tests: list[tuple[str, Model, Model]] = []
    for language in evaluation.outcomes.languages:
        models = [(base, train) for base, train, evaluated in average.accuracies if evaluated == language]
        # The in-language model is the one to compare to, so it comes second.
        tests += [(language, b, a) if a == (b[0], language) else (language, a, b) for a, b in combinations(models, 2)]
    families = np.array([design.family(*test) for test in tests])
    p_items, p_values, p_holm = np.empty((3, len(tests)))
    estimates = [average.estimate({(*a, language): 1, (*b, language): -1}) for language, a, b in tests]
    # A family on its own: what is added to another one moves no number here.
    for family in dict.fromkeys(families.tolist()):
        members = np.flatnonzero(families == family)
        pairs = [[(*model, tests[m][0]) for model in tests[m][1:]] for m in members]
        columns = {cell: place for place, cell in enumerate(dict.fromkeys(cell for pair in pairs for cell in pair))}
        first, second = np.array([[columns[cell] for cell in pair] for pair in pairs]).T
        p_items[members] = permutation_p_values(average.parts(columns), first, second)
        of_t = np.array([estimates[m].p_value() if estimates[m].several_seeds else np.nan for m in members])
        p_values[members] = np.where(np.isnan(of_t), p_items[members], of_t)
        p_holm[members] = holm(p_values[members].tolist())
    for (language, a, b), family, estimate, *p in zip(
        tests, families, estimates, p_values, p_holm, p_items, strict=True
    ):
        numbers = estimate.value, *estimate.interval(), *p, estimate.n, estimate.seeds
        yield language, *a, *b, str(family), *numbers


@measure(
    {
        "base_model": "base model; all: the mean over several",
        "comparison": "source minus target-language: the source's reward model against the target's own, mean over targets; "
        "elsewhere minus in-language: every whole language's against the in-language one, mean over all",
        "difference": "average accuracy of the first minus that of the second, means over seeds, from -1 to 1",
        "ci_low": f"lower bound of its 95 % interval over {_ITEMS_AND_SEEDS}",
        "ci_high": "upper bound of that interval",
        "comparisons": "differences of two models that it is the mean of",
        "n": "items",
        "seeds": "seeds of the model that has fewest",
    }
)
def headline(evaluation: Evaluation) -> Iterator[Row]:
    """What differences to the in-language model come to on average."""
    average, bases = evaluation.average, evaluation.design.bases
    for comparison, pairs in evaluation.design.comparisons(average.accuracies).items():
        by_base = {base: [pair for pair in pairs if pair[0][0] == base] for base in bases}
        several = {ALL: pairs} if sum(map(bool, by_base.values())) > 1 else {}
        for base, mine in (by_base | several).items():
            if mine:
                estimate = average.mean_difference(mine)
                interval = estimate.interval()
                yield base, comparison, estimate.value, *interval, len(mine), estimate.n, estimate.seeds


@measure(
    {
        "base_model": "base model",
        "component": "what varies: seed, train_language, eval_language, item, and products of them, their interactions; or what "
        "that makes of an accuracy: one with another seed, a difference of two training languages with another seed",
        "df": "degrees of freedom of its mean square; of the last two Satterthwaite's",
        "sd": "standard deviation in points of accuracy; 0 where the variance is estimated below 0",
        "variance": "estimated variance, of outcomes from 0 to 1; may be below 0",
        "share": "its share in the sum of all components above 0; empty for the last two",
    }
)
def variance(evaluation: Evaluation) -> Iterator[Row]:
    """What outcomes vary with, for each base model: the components of variance of its plain languages' models."""
    import numpy as np

    from rmtransfer.transfer.variance import components

    average, design, cells = evaluation.average, evaluation.design, evaluation.outcomes.cells
    for base in design.bases:
        training, languages = design.grid(base, cells)
        if not training or not languages:
            continue
        outcomes = np.stack([[cells[base, t, e] for e in languages] for t in training])
        found = components(outcomes, ("train_language", "eval_language", "item", "seed"))
        total = sum(max(component.value, 0) for component in found.values())
        for names, component in found.items():
            share = max(component.value, 0) / total if total else None
            yield base, " x ".join(names), component.df, _points(component.value), component.value, share
        if base in average.grids:
            t, e = training[0], languages[0]
            single = average.of_another_seed(base, {(base, t, e): 1})
            yield base, "another seed: an accuracy", single.df, _points(single.value), single.value, None
            if len(training) > 1:
                two = average.of_another_seed(base, {(base, t, e): 1, (base, training[1], e): -1})
                yield base, "another seed: a difference", two.df, _points(two.value), two.value, None


def _points(variance: float) -> float:
    return 100 * max(variance, 0) ** 0.5


@measure(
    {
        **_SCORER,
        **_LANGUAGE,
        "kappa": "Cohen's kappa, at most 1; 0 is what chance gives, empty where all items have one outcome",
        "ci_low": "lower bound of its 95 % percentile bootstrap interval over items",
        "ci_high": "upper bound of that interval",
        "agreement": "share of items with the same outcome in both languages, from 0 to 1",
        "n": "items",
    }
)
def consistency(evaluation: Evaluation) -> Iterator[Row]:
    """How far outcomes in a language agree with those in the source language.

    An item is right where its outcome is full, and a tie is wrong, as in the accuracy.
    """
    import numpy as np

    from rmtransfer.transfer.evaluation import Sample
    from rmtransfer.transfer.statistics import Resamples, interval, kappa

    outcomes, source = evaluation.outcomes, evaluation.design.source
    items = Sample.of(outcomes, AVERAGE).items
    resamples = Resamples(items.clusters, items.strata)
    for scorer in outcomes.scorers:
        languages = [language for s, language in outcomes.values if s == scorer and language != source]
        if not languages or (scorer, source) not in outcomes.values:
            continue
        here = np.stack([outcomes.values[scorer, language] >= 1 for language in languages], axis=1).astype(float)
        there = np.broadcast_to((outcomes.values[scorer, source] >= 1).astype(float)[:, None], here.shape)
        drawn = resamples.kappas(here, there)
        for language, a, b, draws in zip(languages, here.T, there.T, drawn.T, strict=True):
            yield *scorer, language, kappa(a, b), *interval(draws), (a == b).mean(), len(a)


_QUANTILES = {f"q{100 * q:02.0f}": q for q in (0.05, 0.25, 0.5, 0.75, 0.95)}


@measure(
    {
        **_SCORER,
        **_LANGUAGE,
        "what": "reward of the chosen or the rejected answers, or margin: that of the chosen one minus that of the rejected one",
        "mean": "mean, in the reward model's own units, as all that follows but n",
        "sd": "standard deviation; 0 for one row",
        **{name: f"{100 * q:.0f} % quantile" for name, q in _QUANTILES.items()},
        "n": "rows",
    }
)
def rewards(evaluation: Evaluation) -> Iterator[Row]:
    """How rewards and margins are distributed."""
    import numpy as np

    for (scorer, language), rows in evaluation.scores.items():
        kinds = {"chosen": rows["reward_chosen"], "rejected": rows["reward_rejected"], "margin": _margins(rows)}
        for what, values in kinds.items():
            spread = values.std(ddof=1) if len(values) > 1 else 0.0
            quantiles = np.quantile(values, list(_QUANTILES.values()))
            yield *scorer, language, what, values.mean(), spread, *quantiles, len(values)


@measure(
    {
        **_SCORER,
        **_LANGUAGE,
        "ece": "expected calibration error, from 0 to 1, over 10 bins of confidence",
        "confidence": "mean of max(p, 1 - p), from 0.5 to 1, where p = sigmoid(margin)",
        "accuracy": "share of rows whose chosen answer has the higher reward, from 0 to 1",
        "ties": "rows with a margin of 0",
        "n": "rows",
    }
)
def calibration(evaluation: Evaluation) -> Iterator[Row]:
    """How far sigmoid(margin) is from the share of rows that are right."""
    from rmtransfer.transfer.statistics import expected_calibration_error

    for (scorer, language), rows in evaluation.scores.items():
        margins = _margins(rows)
        ties, accuracy = int((margins == 0).sum()), (margins > 0).mean()
        yield *scorer, language, *expected_calibration_error(margins), accuracy, ties, len(rows)


@measure(
    {
        **_SCORER,
        **_LANGUAGE,
        "accuracy_longer": "accuracy, from 0 to 1, on the rows whose chosen answer is the longer one",
        "n_longer": "those rows",
        "accuracy_shorter": "accuracy, from 0 to 1, on the rows whose chosen answer is the shorter one",
        "n_shorter": "those rows",
        "spearman": "rank correlation of margin and difference in length; empty where one of them does not vary",
        "n": "rows",
    }
)
def length_bias(evaluation: Evaluation) -> Iterator[Row]:
    """Accuracy where the chosen answer is the longer and where it is the shorter one, in tokens."""
    import numpy as np
    from scipy.stats import spearmanr

    for (scorer, language), rows in evaluation.scores.items():
        if rows["tokens_chosen"].isna().any():
            continue
        longer = (rows["tokens_chosen"] - rows["tokens_rejected"]).to_numpy(float)
        margins = _margins(rows)
        parts = [margins[longer > 0] > 0, margins[longer < 0] > 0]
        values = [value for part in parts for value in (part.mean() if len(part) else np.nan, len(part))]
        varied = len(set(margins)) > 1 and len(set(longer)) > 1
        yield *scorer, language, *values, spearmanr(margins, longer)[0] if varied else np.nan, len(rows)


def _margins(rows: pd.DataFrame) -> np.ndarray:
    return (rows["reward_chosen"] - rows["reward_rejected"]).to_numpy(float)
