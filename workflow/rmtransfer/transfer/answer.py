"""The study's answer in a few sentences, whichever way it falls."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rmtransfer.study.names import ALPHA, AVERAGE, IN_LANGUAGE, NOT_OURS
from rmtransfer.study.sections import SECTIONS
from rmtransfer.transfer.outcomes import Evaluation, Outcomes
from rmtransfer.transfer.statistics import Resamples, interval, wilson


def answer_of(evaluation: Evaluation, significance: pd.DataFrame) -> str:
    """The study's answer on a benchmark, a sentence a line.

    Args:
        significance: the table of that name.
    """
    outcomes, source, resamples = evaluation.outcomes, evaluation.source, evaluation.resamples
    family = significance[significance["family"] == IN_LANGUAGE]
    advantage = source_advantage(outcomes, source, resamples)
    if advantage is None:
        sentences = _source_against_rest(outcomes, source, resamples)
    else:
        # A language that no model was trained in is evaluated, but there is nothing to compare to.
        targets = family.loc[family["train_a"] == source, "eval_language"].unique()
        sentences = [_source_against_targets(source, targets, *advantage)]
    if len(family):
        differing = family[family["p_holm"] < ALPHA]
        worse = int((differing["difference"] < 0).sum())
        found = f"{len(differing)} are" if len(differing) != 1 else "1 is"
        found += f" ({worse} of them to the disadvantage of the model from elsewhere)"
        sentences.append(
            f"Of {len(family)} difference{'s' if len(family) > 1 else ''} to the in-language reward model, "
            f"{found if len(differing) else 'none is'} significant at 5 % after Holm's correction (paired permutation tests)."
        )
    if len(family) > 1:
        gap, low, high = _mean_difference(outcomes, family, resamples)
        sentences.append(
            f"On average the model from elsewhere is {abs(100 * gap):.1f} points {'above' if gap > 0 else 'below'} the "
            f"in-language one (95 % interval {100 * low:+.1f} to {100 * high:+.1f}; paired bootstrap)."
        )
    return "\n".join([*sentences, *_empty_sections(outcomes)])


def source_advantage(outcomes: Outcomes, source: str, resamples: Resamples) -> tuple[float, float, float, int] | None:
    """By how much the source-language reward model is better than the target-language ones in their own languages.

    The difference in average accuracy, mean over target languages, base models and seeds, with a 95 % percentile
    interval from a paired bootstrap over items.

    Returns:
        Difference, lower and upper bound (in accuracy, not per cent), number of items; None where no base has both.
    """
    differences = [
        outcomes.values[of_source, language] - values
        for (scorer, language), values in outcomes.values.items()
        for of_source in [scorer._replace(train_language=source)]
        if scorer.train_language == language != source and (of_source, language) in outcomes.values
    ]
    if not differences:
        return None
    difference = np.mean(differences, axis=0)
    low, high = interval(resamples.means(difference[:, None], outcomes.weights)[:, 0])
    return float(outcomes.weights @ difference), low, high, len(difference)


def _mean_difference(outcomes: Outcomes, tests: pd.DataFrame, resamples: Resamples) -> tuple[float, float, float]:
    """Mean over ``tests`` of the difference between two models, with an interval: what many small ones come to."""
    models = {language: outcomes.by_model(language) for language in tests["eval_language"].unique()}
    differences = [
        models[test.eval_language][test.base_a, test.train_a].mean(axis=1)
        - models[test.eval_language][test.base_b, test.train_b].mean(axis=1)
        for test in tests.itertuples()
    ]
    mean = np.mean(differences, axis=0)
    return float(outcomes.weights @ mean), *interval(resamples.means(mean[:, None], outcomes.weights)[:, 0])


def _source_against_targets(
    source: str, targets: Sequence[str], difference: float, low: float, high: float, n: int
) -> str:
    points = 100 * difference
    if abs(points) < 0.05:
        verdict = "as accurate as the target-language reward models"
    else:
        verdict = f"{abs(points):.1f} points {'above' if points > 0 else 'below'} the target-language reward models"
    zero = "includes zero" if low <= 0 <= high else "excludes zero"
    return (
        f"The {source} reward model is {verdict} on average over {', '.join(targets)} "
        f"(95 % interval {100 * low:+.1f} to {100 * high:+.1f}, which {zero}; paired bootstrap over {n} benchmark pairs)."
    )


def _source_against_rest(outcomes: Outcomes, source: str, resamples: Resamples) -> list[str]:
    """For models of others: accuracy in the source language and on average in the rest."""
    lines = []
    for scorer in outcomes.scorers:
        if (scorer, source) not in outcomes.values:
            continue
        base, train, seed = scorer
        name = base if train == NOT_OURS else f"{base} trained in {train} (seed {seed})"
        here = outcomes.values[scorer, source]
        line = f"{name}: {100 * outcomes.weights @ here:.1f} % in {source}"
        rest = [values for (s, language), values in outcomes.values.items() if s == scorer and language != source]
        if rest:
            there = np.mean(rest, axis=0)
            low, high = interval(resamples.means((there - here)[:, None], outcomes.weights)[:, 0])
            line += (
                f", {100 * outcomes.weights @ there:.1f} % on average over {len(rest)} other "
                f"language{'s' if len(rest) > 1 else ''} (difference {100 * outcomes.weights @ (there - here):+.1f} points, "
                f"95 % interval {100 * low:+.1f} to {100 * high:+.1f}; paired bootstrap over {len(here)} benchmark items)"
            )
        else:
            low, high = wilson(float(outcomes.weights @ here), outcomes.weights)
            line += f" (95 % interval {100 * low:.1f} to {100 * high:.1f}; {len(here)} benchmark items)"
        lines.append(f"{line}.")
    return lines


def _empty_sections(outcomes: Outcomes) -> list[str]:
    empty = [section for section in SECTIONS.get(outcomes.sections, ()) if section not in outcomes.names]
    if not empty:
        return []
    there = ", ".join(name for name in outcomes.names if name != AVERAGE)
    return [f"The benchmark has no rows in {', '.join(empty)}: the average is that of {there}."]
