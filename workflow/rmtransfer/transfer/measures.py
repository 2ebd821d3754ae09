"""The tables of a benchmark, one function each: what it holds and how its rows come out of the scores.

A table is a function with :func:`measure` above it: its name is the table's, the first line of its docstring says what is in
it, its columns are described there and nowhere else. Nothing heavy is imported before a function runs, because rules are made
from ``MEASURES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import TYPE_CHECKING, Any

from rmtransfer.study.names import AVERAGE, IN_LANGUAGE, TRANSLATE_TEST
from rmtransfer.study.sections import item_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from rmtransfer.transfer.outcomes import Evaluation, Outcomes

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
_BOOTSTRAP = {
    "ci_low": "lower bound of its 95 % percentile bootstrap interval over items",
    "ci_high": "upper bound of that interval",
}
_ACCURACY = {
    **_SCORER,
    **_LANGUAGE,
    **_SECTION,
    "accuracy": "weighted mean outcome of the section's items, from 0 to 1; Ties of RewardBench 2 goes from -0.01 to 1.01",
    "ci_low": "lower bound of its 95 % Wilson interval at the effective sample size",
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
        yield from _accuracies(Outcomes({key: rows[clean] for key, rows in scores.items()}, sections))


def _accuracies(outcomes: Outcomes) -> Iterator[Row]:
    from rmtransfer.transfer.statistics import wilson

    for (scorer, language), values in outcomes.values.items():
        for section in outcomes.names:
            share = outcomes.share(section)
            accuracy = float(share @ values)
            yield *scorer, language, section, accuracy, *wilson(accuracy, share), int((share > 0).sum())


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
        **_MODEL,
        **_LANGUAGE,
        **_SECTION,
        "mean": "accuracy, mean over seeds, from 0 to 1",
        "sd": "standard deviation of the accuracy over seeds; empty for one seed",
        "ci_low": "lower bound of the mean's 95 % percentile bootstrap interval over items and seeds",
        "ci_high": "upper bound of that interval",
        "seeds": "number of seeds",
    }
)
def seeds(evaluation: Evaluation) -> Iterator[Row]:
    """Mean and spread of the accuracy over seeds."""
    import numpy as np

    from rmtransfer.transfer.statistics import interval

    outcomes, resamples = evaluation.outcomes, evaluation.resamples
    for language in outcomes.languages:
        models = outcomes.by_model(language)
        last = np.cumsum([these.shape[1] for these in models.values()])[:-1]
        values = np.concatenate(list(models.values()), axis=1)
        for section in outcomes.names:
            share = outcomes.share(section)
            of_models = np.split(share @ values, last)
            draws_of_models = np.split(resamples.means(values, share), last, axis=1)
            for model, accuracies, draws in zip(models, of_models, draws_of_models, strict=True):
                spread = float(accuracies.std(ddof=1)) if len(accuracies) > 1 else None
                bounds = interval(resamples.two_way(draws))
                yield *model, language, section, accuracies.mean(), spread, *bounds, len(accuracies)


@measure(
    {
        **_LANGUAGE,
        "base_a": "base model of the first model; of a model of others its name",
        "train_a": "language or mixture that the first model was trained in, translate-test or -",
        "base_b": "base model of the second model",
        "train_b": "what the second model was trained in",
        "family": "in-language: b has the base of a and was trained in the evaluation language; other: any other two",
        "difference": "average accuracy of a minus that of b, means over seeds, from -1 to 1",
        "ci_low": "lower bound of its 95 % percentile interval from a paired bootstrap over items",
        "ci_high": "upper bound of that interval",
        "p_value": "two-sided, of a paired permutation test over items",
        "p_holm": "the same, adjusted by Holm's method within the family, over all languages",
        "n": "items",
        "seeds": "seeds of the model that has fewer",
    }
)
def significance(evaluation: Evaluation) -> Iterator[Row]:
    """The difference in average accuracy of every two models in every language, and whether it is beyond chance."""
    import numpy as np

    from rmtransfer.transfer.statistics import holm, interval, permutation_p_values

    outcomes = evaluation.outcomes
    cells: list[tuple[str, tuple[str, str], int]] = []  # language, model, seeds
    columns: list[np.ndarray] = []
    pairs: list[tuple[int, int]] = []
    families: list[str] = []
    for language in outcomes.languages:
        start = len(cells)
        for model, these in outcomes.by_model(language).items():
            cells.append((language, model, these.shape[1]))
            columns.append(these.mean(axis=1))
        for i, j in combinations(range(start, len(cells)), 2):
            # The in-language model is the one to compare to, so it comes second.
            (base_i, train_i), (base_j, train_j) = cells[i][1], cells[j][1]
            pairs.append((j, i) if base_i == base_j and train_i == language else (i, j))
            families.append(IN_LANGUAGE if base_i == base_j and language in (train_i, train_j) else "other")
    if not pairs:
        return
    values = np.stack(columns, axis=1)
    first, second = np.array(pairs).T
    p_values = permutation_p_values(values, first, second, outcomes.weights)
    p_holm = np.empty(len(pairs))
    for family in set(families):
        inside = np.array(families) == family
        p_holm[inside] = holm(p_values[inside])
    means = outcomes.weights @ values
    tests = zip(pairs, families, p_values, p_holm, strict=True)
    for language, of_language in groupby(tests, lambda test: cells[test[0][0]][0]):
        models = [k for k, cell in enumerate(cells) if cell[0] == language]
        drawn = evaluation.resamples.means(values[:, models], outcomes.weights).T.copy()
        draws = dict(zip(models, drawn, strict=True))
        for (i, j), family, p_value, adjusted in of_language:
            (_, a, seeds_a), (_, b, seeds_b) = cells[i], cells[j]
            difference, bounds = means[i] - means[j], interval(draws[i] - draws[j])
            yield language, *a, *b, family, difference, *bounds, p_value, adjusted, len(values), min(seeds_a, seeds_b)


@measure(
    {
        **_SCORER,
        **_LANGUAGE,
        "kappa": "Cohen's kappa, at most 1; 0 is what chance gives, empty where all items have one outcome",
        **_BOOTSTRAP,
        "agreement": "share of items with the same outcome in both languages, from 0 to 1",
        "n": "items",
    }
)
def consistency(evaluation: Evaluation) -> Iterator[Row]:
    """How far outcomes in a language agree with those in the source language.

    An item is right where its outcome is full, and a tie is wrong, as in the accuracy.
    """
    import numpy as np

    from rmtransfer.transfer.statistics import interval, kappa

    outcomes, source = evaluation.outcomes, evaluation.source
    for scorer in outcomes.scorers:
        languages = [language for s, language in outcomes.values if s == scorer and language != source]
        if not languages or (scorer, source) not in outcomes.values:
            continue
        here = np.stack([outcomes.values[scorer, language] >= 1 for language in languages], axis=1).astype(float)
        there = np.broadcast_to((outcomes.values[scorer, source] >= 1).astype(float)[:, None], here.shape)
        drawn = evaluation.resamples.kappas(here, there)
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
