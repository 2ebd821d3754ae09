"""The study's answer in a few sentences, whichever way it falls."""

from collections.abc import Sequence

import pandas as pd

from rmtransfer.study.names import ALPHA, AVERAGE, FROM_ELSEWHERE, NOT_OURS, PRIMARY, SOURCE_AGAINST_TARGETS
from rmtransfer.study.sections import SECTIONS
from rmtransfer.transfer.design import Cell
from rmtransfer.transfer.evaluation import Evaluation
from rmtransfer.transfer.outcomes import Outcomes
from rmtransfer.transfer.variance import Estimate

# By how many points another seed moves one model's accuracy in one language (standard deviation over runs of a cell): of two
# recipes in docs/recipe.md, on the embedded benchmark, that differ in how the score head starts.
SEED_SD = {"probe": 1.5, "normal": 8.3}


def answer_of(evaluation: Evaluation, significance: pd.DataFrame) -> str:
    """The study's answer on a benchmark, a sentence a line.

    It is of the study's own base models and whole languages, so that mixtures, variants, parts and models of others change
    no word of it.

    Args:
        significance: the table of that name.
    """
    average = evaluation.average
    comparisons = evaluation.design.comparisons(average.accuracies)
    to_targets, from_elsewhere = comparisons[SOURCE_AGAINST_TARGETS], comparisons[FROM_ELSEWHERE]
    sentences = []
    if to_targets:
        estimate = average.mean_difference(to_targets)
        targets = list(dict.fromkeys(language for (_, _, language), _ in to_targets))
        sentences.append(_source_against_targets(evaluation, targets, estimate))
        tests = significance[significance["family"] == PRIMARY]
        sentences.append(_primary_tests(evaluation.design.source, tests))
    if len(from_elsewhere) > len(to_targets):
        sentences.append(_from_elsewhere(evaluation, from_elsewhere))
    if not to_targets:
        sentences += _source_against_rest(evaluation)
    elif estimate.seeds == 1:
        sentences.append(
            "There is one seed: the chance of a training run is not in these intervals and tests. On the embedded benchmark "
            f"another seed moves the accuracy of a reward model in a language by {SEED_SD['probe']:.1f} points (standard "
            f"deviation) where its score head starts fitted, and by {SEED_SD['normal']:.1f} where it is drawn at random."
        )
    return "\n".join([*sentences, *_empty_sections(evaluation.outcomes)])


def _source_against_targets(evaluation: Evaluation, targets: Sequence[str], estimate: Estimate) -> str:
    points = 100 * estimate.value
    if abs(points) < 0.05:
        verdict = "as accurate as the target-language reward models"
    else:
        verdict = f"{abs(points):.1f} points {'above' if points > 0 else 'below'} the target-language reward models"
    low, high = estimate.interval()
    zero = "includes zero" if low <= 0 <= high else "excludes zero"
    return (
        f"The {evaluation.design.source} reward model is {verdict} on average over {', '.join(targets)} "
        f"({_interval(estimate)}, which {zero}; {_sample(evaluation, estimate)})."
    )


def _primary_tests(source: str, tests: pd.DataFrame) -> str:
    differing = tests[tests["p_holm"] < ALPHA]
    worse = int((differing["difference"] < 0).sum())
    found = "none is"
    if len(differing):
        found = f"{len(differing)} {'are' if len(differing) > 1 else 'is'} ({worse} of them to its disadvantage)"
    kind = "t tests over seeds and items" if tests["seeds"].min() > 1 else "paired permutation tests over items"
    return (
        f"Of {len(tests)} difference{'s' if len(tests) > 1 else ''} between the {source} reward model and that of the target "
        f"language, {found} significant at 5 % after Holm's correction ({kind})."
    )


def _from_elsewhere(evaluation: Evaluation, pairs: Sequence[tuple[Cell, Cell]]) -> str:
    estimate = evaluation.average.mean_difference(pairs)
    points = 100 * estimate.value
    verdict = (
        "as accurate as" if abs(points) < 0.05 else f"{abs(points):.1f} points {'above' if points > 0 else 'below'}"
    )
    return (
        f"On average over {len(pairs)} comparisons a reward model trained in one other language is {verdict} the in-language "
        f"one ({_interval(estimate)}; {_sample(evaluation, estimate)})."
    )


def _source_against_rest(evaluation: Evaluation) -> list[str]:
    """Without models to compare: accuracy in the source language and on average in the rest."""
    average, source = evaluation.average, evaluation.design.source
    lines = []
    for base, train, language in average.accuracies:
        if language != source:
            continue
        here, (low, high) = average.level((base, train, source))
        line = f"{base if train == NOT_OURS else f'{base} trained in {train}'}: {100 * here.value:.1f} % in {source}"
        rest = [cell for cell in average.accuracies if cell[:2] == (base, train) and cell[2] != source]
        if rest:
            contrast = {cell: 1 / len(rest) for cell in rest} | {(base, train, source): -1.0}
            estimate = average.estimate(contrast)
            line += (
                f", {100 * (here.value + estimate.value):.1f} % on average over {len(rest)} other "
                f"language{'s' if len(rest) > 1 else ''} (difference {100 * estimate.value:+.1f} points, "
                f"{_interval(estimate)}; {_sample(evaluation, estimate)})"
            )
        else:
            line += f" (95 % interval {100 * low:.1f} to {100 * high:.1f}; {_sample(evaluation, here)})"
        lines.append(f"{line}.")
    return lines


def _interval(estimate: Estimate) -> str:
    low, high = estimate.interval()
    return f"95 % interval {100 * low:+.1f} to {100 * high:+.1f}"


def _sample(evaluation: Evaluation, estimate: Estimate) -> str:
    kind = "items" if evaluation.outcomes.sections == "rewardbench2" else "pairs"
    return f"{estimate.seeds} seed{'s' if estimate.seeds > 1 else ''} and {estimate.n} benchmark {kind}"


def _empty_sections(outcomes: Outcomes) -> list[str]:
    empty = [section for section in SECTIONS.get(outcomes.sections, ()) if section not in outcomes.names]
    if not empty:
        return []
    there = ", ".join(name for name in outcomes.names if name != AVERAGE)
    return [f"The benchmark has no rows in {', '.join(empty)}: the average is that of {there}."]
