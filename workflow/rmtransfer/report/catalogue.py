"""What there is to draw: one line per figure. Imports nothing that draws, because rules are made from it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rmtransfer.study.aligning import Aligning

if TYPE_CHECKING:
    from rmtransfer.study.layout import Layout, Pattern
    from rmtransfer.study.study import Study


class Figure(NamedTuple):
    """A figure of the study, drawn by one function from the study's tables."""

    name: str
    """file name, without its ending"""
    scope: Literal["benchmark", "study"]
    """one per benchmark, below figures/<benchmark>/, or one of the study, below figures/"""
    needs: Literal["", "bases", "translations", "parts", "sizes", "held_out", "constraints"]
    """what a study must have for it: anything, base models that it trains, translations, parts of training sets, several bases,
    held-out instructions, instructions whose answers code checks"""
    tables: tuple[str, ...]
    """the tables that it reads, by name: those of the benchmark, or those of the study"""
    draw: str
    """``module:function``, called as in :func:`draw`"""
    category: str
    """where the report lists it"""
    caption: str
    """what the report says of it, in reStructuredText"""
    names: tuple[Literal["source", "baselines"], ...] = ()
    """what the tables do not say and it must know: the study's source language, which rows are baselines"""

    @property
    def of_benchmark(self) -> bool:
        """Whether there is one of every benchmark."""
        return self.scope == "benchmark"

    def table_paths(self, at: Layout) -> dict[str, Pattern]:
        """Where its tables lie, by name."""
        pattern = at.benchmark_table if self.of_benchmark else at.table
        return {table: pattern.fill(table=table) for table in self.tables}

    def path(self, at: Layout, format: str) -> Pattern:
        """Where it lies, as ``png`` or ``pdf``."""
        return (at.benchmark_figure if self.of_benchmark else at.figure).fill(figure=self.name, format=format)


_SEEDS = "With several seeds: means over seeds"
_CHANCE = "The dotted line is what rewards by chance come to"
_BASELINES = (
    "In grey what a reward model must beat: a band for heads that were never trained, drawn several times (mean ± the standard "
    "deviation over draws), dashes for other baselines"
)

FIGURES = (
    Figure(
        name="translation",
        scope="study",
        needs="translations",
        tables=("translation",),
        draw="rmtransfer.report.figures.translation:draw_translation",
        category="0. Translation",
        caption=(
            "Translation, by target language and engine: the share of texts that passed all checks at once, after one "
            "retry with a safer setting, or not at all, by the first reason. A row with a refused text is dropped in "
            "every language; which ones and why is in ``translations/<language>/<part>.dropped.csv``."
        ),
    ),
    Figure(
        name="training",
        scope="study",
        needs="bases",
        tables=("training",),
        draw="rmtransfer.report.figures.training:draw_training",
        category="0. Training",
        caption=(
            "Bradley-Terry loss and accuracy on pairs that are kept out of training (``training.held_out``; the same pairs for "
            "all models, each in the language that it is trained in), before the first step, after the last, and between. "
            "Colour and marker: training set. With several seeds: each a thin line, and their mean. Dotted: a model that "
            "tells no two answers apart. With more than eight training sets, heat maps of the mean. All steps, with loss and "
            "accuracy on the pairs trained on, are in training.csv."
        ),
    ),
    Figure(
        name="transfer",
        scope="benchmark",
        needs="",
        tables=("transfer", "significance", "length_baseline", "chance"),
        draw="rmtransfer.report.figures.transfer:draw_heatmap",
        names=("baselines",),
        category="1. Transfer",
        caption=(
            "Accuracy in per cent on the benchmark, the mean of its sections, of the reward model in the row on texts in "
            "the column's language; in brackets how often the longer answer, in tokens, is the better one. Beside or "
            "below it the difference in percentage points to the model trained in the column's own language, so that the "
            "diagonal is zero. Hatched cells with numbers in italics: the difference is not significant (p ≥ 0.05 after Holm's "
            "correction within the comparison's family; with several seeds the test is of seeds and items, with one of items "
            "alone). Off-the-shelf models and baselines have no in-language model to compare with; a probe is named with the "
            f"language that it was fitted in. Grey cells were not evaluated. {_SEEDS}, ± the standard deviation over seeds; of "
            "untrained heads, over their draws. Intervals and tests are in the benchmark's seeds.csv and significance.csv."
        ),
    ),
    Figure(
        name="sections",
        scope="benchmark",
        needs="",
        tables=("seeds", "chance"),
        draw="rmtransfer.report.figures.transfer:draw_sections",
        names=("baselines",),
        category="1. Transfer",
        caption=(
            f"Accuracy by benchmark section and on average. {_SEEDS}, with 95 % intervals that hold seeds and items; with one "
            "seed, items alone. Colour and marker: language that the reward model was trained in, or its name. "
            f"{_BASELINES}, and a cross for a probe of the base model's states, beside the reward model of the language that it "
            f"was fitted in. {_CHANCE}; the axis does not start at zero. With too many models or languages for points, one heat "
            "map per section, without probes."
        ),
    ),
    Figure(
        name="source_against_target",
        scope="benchmark",
        needs="bases",
        tables=("seeds", "significance", "chance"),
        draw="rmtransfer.report.figures.transfer:draw_source_against_target",
        names=("source", "baselines"),
        category="1. Transfer",
        caption=(
            "Average accuracy in every target language of two reward models: trained in the source language (filled "
            "circle, upper interval) and trained in the target language itself (open square, lower interval). Right: their "
            f"difference, the primary family of comparisons. {_SEEDS}. All 95 % intervals hold seeds and items; with one seed, "
            "items alone. They are not corrected for their number; the corrected p-values are in the benchmark's "
            f"significance.csv. {_BASELINES}, and crosses for probes of the base model's states, fitted in the source "
            f"(upright) and in the target language (oblique). {_CHANCE}; the axis does not start at zero."
        ),
    ),
    Figure(
        name="dose",
        scope="benchmark",
        needs="parts",
        tables=("scaling",),
        draw="rmtransfer.report.figures.scaling:draw_dose",
        names=("source",),
        category="1. Transfer",
        caption=(
            "Average accuracy by number of training pairs (logarithmic axis), one panel per evaluation language and one for "
            "the mean over the target languages. Reward models trained in the evaluation language itself, in the source "
            "language, and in the other target languages, of which the line is the mean. Smaller training sets are parts of "
            "larger ones, with the same pairs in every language. With 95 % intervals; the axis of accuracy does not start at "
            "zero. With too many languages for panels, the mean alone. All numbers are in the benchmark's scaling.csv."
        ),
    ),
    Figure(
        name="sizes",
        scope="benchmark",
        needs="sizes",
        tables=("scaling",),
        draw="rmtransfer.report.figures.scaling:draw_sizes",
        names=("source",),
        category="1. Transfer",
        caption=(
            "Average accuracy by base model, in the order of their numbers of parameters (embeddings included), of reward "
            "models trained on all pairs: in the evaluation language itself, in the source language, and in the other target "
            "languages (their mean). One panel per evaluation language and one for the mean over the target languages. With "
            "95 % intervals; the axis of accuracy does not start at zero. With too many languages for panels, the mean alone. "
            "All numbers are in the benchmark's scaling.csv."
        ),
    ),
    Figure(
        name="consistency",
        scope="benchmark",
        needs="",
        tables=("consistency",),
        draw="rmtransfer.report.figures.transfer:draw_consistency",
        names=("baselines",),
        category="1. Transfer",
        caption=(
            "Cohen's kappa between the outcome (right or wrong, ties wrong) on each benchmark item in the column's "
            "language and in the source language, by reward model: 1 is the same verdict on every item, 0 what chance "
            f"gives. {_SEEDS}, ± the standard deviation over seeds. Intervals are in the benchmark's consistency.csv."
        ),
    ),
    Figure(
        name="rewards",
        scope="benchmark",
        needs="",
        tables=("rewards", "calibration"),
        draw="rmtransfer.report.figures.rewards:draw_rewards",
        names=("baselines",),
        category="1. Transfer",
        caption=(
            "Rewards of chosen and rejected answers by language, one panel per reward model: median, quartiles, and "
            "whiskers from the 5 % to the 95 % quantile. Reward models share no scale: rewards are standardised per model "
            f"by the mean and standard deviation of all its rewards, over all languages. {_SEEDS} in the boxes, dots are "
            "the medians of each seed, or of each draw of an untrained head. ECE: expected calibration error of the sigmoid of "
            "the reward margin, 10 bins. Probes are in rewards.csv alone."
        ),
    ),
    Figure(
        name="length_bias",
        scope="benchmark",
        needs="",
        tables=("length_bias",),
        draw="rmtransfer.report.figures.rewards:draw_length_bias",
        names=("baselines",),
        category="1. Transfer",
        caption=(
            "Accuracy where the chosen answer is the longer one, in tokens, against accuracy where it is the shorter one. "
            "On the diagonal length decides nothing; above it longer answers are favoured, below it shorter ones. "
            f"{_SEEDS}, with the standard deviation over seeds. Small and grey: a probe of the base model's states, fitted in the "
            "language that the panel's reward model was trained in; with more than ten languages in length_bias.csv alone. Only models whose tokens are counted."
        ),
    ),
    Figure(
        name="pca",
        scope="study",
        needs="bases",
        tables=("pca", "representation"),
        draw="rmtransfer.report.figures.representation:draw_pca",
        category="2. Representation",
        caption=(
            "First two principal components of the last-layer hidden state of the last token, which is what the score "
            "head reads, of each model on all benchmark texts, chosen and rejected, in every language. Each panel has its "
            "own axes, fitted on all its points; their share of the variance is in brackets. With several seeds, models of "
            "the first; the others are in pca.csv. With more than eight languages, dots are texts and the marker is their mean."
        ),
    ),
    Figure(
        name="representation",
        scope="study",
        needs="bases",
        tables=("representation",),
        draw="rmtransfer.report.figures.representation:draw_representation",
        category="2. Representation",
        caption=(
            "Shift: how far training moved the last-token hidden states, one minus the cosine between reward model and "
            "base model, mean over benchmark texts. Singular-value share: f = s1 / sum(s) of one text's hidden states in "
            "all languages (centred if the config says representation.centered), mean over texts; the dashed line is the "
            "base model, and higher is more alike across languages. Its axis does not start at zero. Norm of the hidden "
            "states: mean and standard deviation over texts, by language of the text; with more than ten languages or "
            "models, the mean alone."
        ),
    ),
    Figure(
        name="best_of_n",
        scope="study",
        needs="bases",
        tables=("best_of_n",),
        draw="rmtransfer.report.figures.alignment:draw_best_of_n",
        category="3. Alignment",
        caption=(
            "Best-of-n: a reward model picks the best of n answers that the base model sampled. Top: what a pick gains on a "
            "single answer in the eyes of reward models that are trained in none of the picking model's languages and, with "
            "several seeds, from another seed, or of the model named; in standard deviations of a referee's rewards of the "
            "answers to one instruction. The dashed line is the gain of who ranks as its referee does. Below: how many of the "
            "picks are in the language of the instruction, among those whose language can be told, and how many ended by "
            "themselves; dotted: of all answers. A gain above a falling share is a change of language as well. Colour and "
            "marker: language that the picking model was trained in, or its name. The band, of the model trained in the "
            "panel's own language, is the 95 % interval over instructions and seeds; with one seed, over instructions alone. "
            "All referees share the base model that wrote the answers, unless they are named. With too many models or "
            "languages for curves, a heat map of the gain at the largest n: hatched, with numbers in italics, where picks are "
            "in the instruction's language less often than answers are (95 % interval below zero). All intervals are in "
            "best_of_n.csv."
        ),
    ),
    Figure(
        name="win_rates",
        scope="study",
        needs="held_out",
        tables=("alignment",),
        draw="rmtransfer.report.figures.win_rates:draw_win_rates",
        category="3. Alignment",
        caption=(
            "Answers to held-out instructions against the policy's own: share of wins, ties half, by language, and the mean over the "
            "target languages, paired by instruction. Rows: the best of the largest n answers that a reward model picked, and policies "
            "that are aligned with it. Colour and marker: the reward model that selected, by its training language; in-language is in "
            "each language the one that is trained in that. Columns: judges; a panel of reward models leaves out those that were "
            "trained in a selector's language, and is a sibling where it shares the selector's base model: it says how far reward "
            "models agree, not whether answers are better. Dashes: the same at equal length (length-controlled). With 95 % intervals over "
            "instructions and, with several, seeds. All numbers are in alignment.csv."
        ),
    ),
    Figure(
        name="over_optimisation",
        scope="study",
        needs="bases",
        tables=("alignment",),
        draw="rmtransfer.report.figures.win_rates:draw_over_optimisation",
        names=("source",),
        category="3. Alignment",
        caption=(
            "Over-optimisation: what the best of n answers gains on a single one by the rewards of the reward model that picked it "
            "(dashes) and by those of judges, in standard deviations within an instruction. Where the first rises and the others do "
            "not, more answers please the reward model and nobody else. Upper row: the reward model of the source language; lower "
            "row: that of the answers' own language. With 95 % intervals. All other selectors are in alignment.csv."
        ),
    ),
    Figure(
        name="constraints",
        scope="study",
        needs="constraints",
        tables=("alignment",),
        draw="rmtransfer.report.figures.win_rates:draw_constraints",
        category="3. Alignment",
        caption=(
            "Share of instructions all of whose constraints an answer fulfils, as code checks them, by language: the policy itself and "
            "policies aligned with a reward model. Dashes: read loosely, in the best of eight ways to strip first and last line and "
            "asterisks. With 95 % intervals over instructions. By kind of constraint, and what was left out: constraints.csv."
        ),
    ),
)


SAMPLE_ANSWERS = (
    "Answers to the first held-out instructions side by side, by policy and language: the policy's own, what reward models picked of "
    "several, and those of policies aligned with them. Below an instruction, in italics, the same in the source language."
)


def figures_of(study: Study) -> list[Figure]:
    """The figures that a study has."""
    aligning = Aligning(study)
    has = {
        "": True,
        "bases": bool(study.bases),
        "translations": bool(study.translations),
        "parts": bool(study.bases and study.config.training.pairs),
        "sizes": len(study.bases) > 1,
        "held_out": aligning.evaluates,
        "constraints": aligning.checks_constraints,
    }
    return [figure for figure in FIGURES if has[figure.needs]]


def draw(
    name: str, tables: Mapping[str, Path], outputs: Sequence[Path], names: Mapping[str, Any], style: Mapping[str, Any]
) -> None:
    """Draw a figure.

    Args:
        name: of a line of ``FIGURES``.
        tables: where each of its ``tables`` lies.
        outputs: files to write, one per format.
        names: what its ``names`` are in this study; ``baselines`` as in :attr:`rmtransfer.study.study.Study.baselines`.
        style: ``dpi`` and ``font_size`` in points.
    """
    from rmtransfer.report.figures.style import use_style

    module, _, function = {figure.name: figure.draw for figure in FIGURES}[name].partition(":")
    use_style(**style)
    getattr(importlib.import_module(module), function)(tables, outputs, **names)
