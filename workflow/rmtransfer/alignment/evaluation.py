"""The table of what alignment buys: one tidy row per policy, selector, judge, language and measure."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from rmtransfer.alignment.becoming import became
from rmtransfer.alignment.judges import INDEPENDENT, SIBLING, Bench
from rmtransfer.alignment.win_rates import Verdicts, WinRates, contender_sets
from rmtransfer.study.aligning import BEST_OF_N, Contender
from rmtransfer.study.names import BASE, ITSELF, NOT_OURS, OTHER_LANGUAGES
from rmtransfer.study.study import RewardModelId
from rmtransfer.transfer.design import Design
from rmtransfer.transfer.statistics import LEVEL
from rmtransfer.transfer.variance import Variance, with_seeds

COLUMNS = {
    "policy": "policy whose answers are the base of all comparisons",
    "method": "how its answers were changed: dpo, sft, best-of-n; base: they were not",
    "n": "best-of-n: answers that the best is picked from",
    "selector_base": "base model of the reward model that picked or ranked answers; - for one of reward_models",
    "selector": "its training set (in-language: of each language its own), or its name; <a> - <b>: one less the other",
    "judge": "who judges: base model of the study's own that judge together, or one of reward_models; - where nobody does; "
    "<a> & <b>: two of them",
    "relation": "sibling: judge and selector are of one base; independent: they are not; baseline: the judge knows nothing",
    "language": "language of instructions and answers; targets: mean over the target languages; all: all languages together",
    "measure": "what the value is",
    "value": "mean over instructions and seeds",
    "ci_low": "lower bound of its 95 % interval over instructions and seeds; empty below 8 instructions",
    "ci_high": "upper bound of that interval",
    "seeds": "selectors, one per seed",
    "items": "instructions",
}
MEASURES = {
    "win_rate": "share of instructions in which the contender's answer beats the base's; a tie is half a win",
    "lc_win_rate": "the same at equal length: logistic model of wins by tanh of the difference in characters",
    "lc_departs": "1 where the two differ by more than 10 points",
    "win_rate_difference": "win rate of one selector's contenders less another's, by judges that are strangers to both",
    "ties": "share of instructions that a judge calls a tie, equal answers among them",
    "position_bias": "share of a judge's decided verdicts in which the first place wins; 0.5 has none",
    "off_format": "share of a judge's replies without a verdict",
    "kappa_judges": "Cohen's kappa of two judges, with win, tie and loss as categories",
    "kappa_languages": "Cohen's kappa of a judge's outcomes in a language with those in the source language",
    "fleiss_languages": "Fleiss' kappa of a judge's outcomes in source and target languages",
    "told": "share of answers that are long enough to tell their language",
    "in_language": "share of these in the instruction's language",
    "finished": "share of answers that ended by themselves, not at max_new_tokens",
    "empty": "share of answers without any text",
    "duplicates": "share of instructions whose samples are not all distinct",
    "characters": "mean length in Unicode code points",
    "repetition": "share of 4-grams of words (of characters, in scripts without spaces) that are repeats, mean over answers",
    "kl": "mean of log pi(y|x) - log pi_base(y|x) over the aligned policy's own answers, in nats",
    "proxy_gain": "best of n: reward of the pick less that of a single answer, by the selector's own rewards, in standard "
    "deviations within an instruction",
    "judge_gain": "the same by a judge's rewards",
}


def evaluate_alignment(
    comparisons: Mapping[str, Mapping[str, Path]],
    verdicts: Mapping[str, Verdicts],
    answers: Mapping[str, Mapping[str, Path]],
    drift: Mapping[str, Mapping[str, Path]],
    best_of_n: Path | None,
    design: Design,
    baselines: Collection[str],
    output: Path,
    *,
    built_on: Mapping[str, str] | None = None,
    constraints: pd.DataFrame | None = None,
) -> None:
    """Write ``tables/alignment.csv`` with ``COLUMNS``; what its measures are, ``MEASURES`` says.

    Args:
        comparisons: policy to language to its contenders' comparisons, see :mod:`rmtransfer.alignment.comparisons`.
        verdicts: policy to judge model to language to its rewards of these.
        answers: policy, or ``<policy>/<contender>`` of what was aligned from it, to language to held-out answers.
        drift: ``<policy>/<contender>`` to language to its answers' drift, see :func:`rmtransfer.alignment.becoming.became`.
        best_of_n: ``tables/best_of_n.csv``, whose gains are taken over.
        baselines: names of reward models that know nothing.
        built_on: names of reward models that are made of one of the study's bases, with that base.
        constraints: ``writer, language, measure, value, ci_low, ci_high, items``; a writer is what ``answers`` have.

    Raises:
        StudyError: a file lacks a row that another one has.
    """
    lines: list[dict[str, Any]] = []
    gains = pd.read_csv(best_of_n) if best_of_n is not None else None
    picked = [] if gains is None else list(gains["policy"])
    for policy in dict.fromkeys([*comparisons, *(writer.partition("/")[0] for writer in answers), *picked]):
        found: list[dict[str, Any]] = []
        if policy in comparisons:
            judges = verdicts.get(policy, {})
            bench = Bench(judges, design, baselines, built_on)
            found += WinRates(comparisons[policy], judges, bench, design).rows()
        if policy in answers:
            found += became(policy, _of(policy, answers), _of(policy, drift), design)
        if gains is not None:
            found += _gains(gains[gains["policy"] == policy], Bench((), design, baselines, built_on))
        if constraints is not None:
            found += _constraints(policy, constraints)
        lines += [{"policy": policy, **row} for row in found]
    table = pd.DataFrame(lines, columns=list(COLUMNS)).astype({"n": "Int64"})
    numbers = ["value", "ci_low", "ci_high"]
    table[numbers] = table[numbers].astype(float).round(12) + 0  # an exact zero is no sum that came out just below it
    table.to_csv(output, index=False, float_format="%.6f")


def _of(policy: str, files: Mapping[str, Mapping[str, Path]]) -> dict[str, Mapping[str, Path]]:
    """A policy's own files, and those of what was aligned from it by contender id."""
    prefix = f"{policy}/"
    return {
        writer.removeprefix(prefix): of for writer, of in files.items() if writer == policy or writer.startswith(prefix)
    }


def _gains(table: pd.DataFrame, bench: Bench) -> Iterator[dict[str, Any]]:
    """Rows of ``tables/best_of_n.csv``: what the selector's own rewards say of its picks, and what others' do."""
    for row in table.dropna(subset="gain").to_dict("records"):
        selector = RewardModelId(row["base_model"], row["train_language"])
        judge, relation = row["judged_by"], ""
        if judge == OTHER_LANGUAGES:
            relation = INDEPENDENT if selector.train_language == NOT_OURS else SIBLING
        elif judge != ITSELF:
            relation = bench.relation(judge, selector)
        yield {
            **Contender(BEST_OF_N, row["n"], selector).columns,
            "judge": NOT_OURS if judge == ITSELF else judge,
            "relation": relation,
            "language": row["language"],
            "measure": "proxy_gain" if judge == ITSELF else "judge_gain",
            "value": row["gain"],
            **{name: row[name] for name in ("ci_low", "ci_high", "seeds")},
            "items": row["instructions"],
        }


def _constraints(policy: str, table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows of constraints, with the mean over the seeds of a selector."""
    nobody = {"judge": NOT_OURS, "relation": ""}
    base = {"method": BASE, "n": None, "selector_base": NOT_OURS, "selector": NOT_OURS, **nobody}
    for row in table[table["writer"] == policy].drop(columns="writer").to_dict("records"):
        yield {**base, **row, "seeds": 1}
    prefix = f"{policy}/"
    aligned = table[table["writer"].str.startswith(prefix)]
    aligned = aligned.assign(writer=aligned["writer"].str.removeprefix(prefix))
    for seeds in contender_sets(list(dict.fromkeys(aligned["writer"]))).values():
        of_seeds = aligned[aligned["writer"].isin(seeds)]
        for (language, measure), rows in of_seeds.groupby(["language", "measure"], sort=False):
            value, low, high = _over_seeds(rows)
            yield {
                **Contender.parse(seeds[0]).columns,
                **nobody,
                **{"language": language, "measure": measure, "value": value, "ci_low": low, "ci_high": high},
                "seeds": len(rows),
                "items": int(rows["items"].min()),
            }


def _over_seeds(rows: pd.DataFrame) -> tuple[float, float, float]:
    """The mean of shares that several seeds have on the same items, and its interval.

    Items are the same for all seeds, so that their variance does not shrink by the number of seeds: it is the mean of what
    the seeds' own intervals make it. Seeds add s^2 / k. With what both share counted twice, the interval is rather too wide.
    """
    values = rows["value"].to_numpy(float)
    k, value = len(values), float(values.mean())
    if k == 1:
        return value, float(rows["ci_low"].iloc[0]), float(rows["ci_high"].iloc[0])
    half = (rows["ci_high"] - rows["ci_low"]).to_numpy(float) / 2
    of_items = Variance(float(((half / ndtri((1 + LEVEL) / 2)) ** 2).mean()), float(rows["items"].min() - 1))
    whole = with_seeds(of_items, [Variance(float(values.var(ddof=1)) / k, k - 1)])
    wide = float(stdtrit(whole.df, (1 + LEVEL) / 2)) * np.sqrt(whole.value)
    return value, max(0.0, value - wide), min(1.0, value + wide)
