"""Verdicts and accuracies, by their definitions and by other libraries."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.proportion import proportion_confint

from rmtransfer.alignment.constraints.accuracy import (
    COLUMNS,
    KIND_COLUMNS,
    accuracies,
    accuracies_by_kind,
    check_answers,
    evaluate_constraints,
    paired_interval,
    share_interval,
    variants,
    verdicts,
)
from rmtransfer.alignment.constraints.registry import read_constraint
from rmtransfer.kit.errors import StudyError
from rmtransfer.texts.corpus import save_rows

NO_COMMA = read_constraint("punctuation:no_comma", {}, "en", ["en"])
QUOTED = read_constraint("startend:quotation", {}, "en", ["en"])
BULLETS = read_constraint("detectable_format:number_bullet_lists", {"num_bullets": 1}, "en", ["en"])
GOOD, BAD = '"Yes."', "Yes, it is."


def row(identity, *instructions):
    return {
        "id": identity,
        "prompt": [{"role": "user", "content": f"Q {identity}"}],
        "instructions": list(instructions),
    }


def write(path, rows, texts):
    answers = [
        {
            "id": row["id"],
            "sample": 0,
            "prompt": row["prompt"],
            "answer": [{"role": "assistant", "content": text}],
            "finished": True,
        }
        for row, text in zip(rows, texts, strict=True)
    ]
    save_rows(answers, path)
    return path


def test_the_eight_variants():
    assert variants("Sure, *here*:\n\n*a*\nb\nBye, *you*") == [
        "Sure, *here*:\n\n*a*\nb\nBye, *you*",
        "Sure, here:\n\na\nb\nBye, you",
        "*a*\nb\nBye, *you*",
        "a\nb\nBye, you",
        "Sure, *here*:\n\n*a*\nb",
        "Sure, here:\n\na\nb",
        "*a*\nb",
        "a\nb",
    ]


@pytest.mark.parametrize(
    ("text", "strict", "loose"),
    [
        ("No comma", [True, False], [True, False]),
        ('Sure, here:\n"Yes."', [False, False], [True, True]),
        ('"Yes."\nBye, now', [False, False], [True, True]),
        ('Sure, here:\n"Yes."\nBye, now', [False, False], [True, True]),
        ('*"Yes, yes."*', [False, False], [False, True]),
        ("Sure, sure", [False, False], [False, False]),  # what is left without its only line is blank
        ("", [False, False], [False, False]),
    ],
)
def test_strict_and_loose(text, strict, loose):
    assert verdicts(text, [NO_COMMA, QUOTED], "en") == (strict, loose)


def test_loose_is_never_stricter():
    assert verdicts("* one", [BULLETS], "en") == ([True], [True])  # though without asterisks there is no list


def test_a_worked_example(tmp_path):
    rows = [row("a", NO_COMMA), row("b", NO_COMMA, QUOTED), row("c", NO_COMMA, QUOTED), row("d", QUOTED)]
    # strict: 1 | 1 1 | 1 0 | 0; loose adds the last
    mine = write(tmp_path / "mine.parquet", rows, ["fine", GOOD, "fine", f"Here:\n{GOOD}"])
    base = write(tmp_path / "base.parquet", rows, [BAD, GOOD, "", BAD])
    found = evaluate_constraints({"en": rows}, {"base": {"en": base}, "mine": {"en": mine}}, "base")
    assert list(found) == list(COLUMNS)
    values = {(r.writer, r.measure): (r.value, r.items) for r in found.itertuples()}
    assert values == {
        ("base", "strict_prompt_accuracy"): (1 / 4, 4),
        ("base", "strict_instruction_accuracy"): (2 / 6, 6),
        ("base", "loose_prompt_accuracy"): (1 / 4, 4),
        ("base", "loose_instruction_accuracy"): (2 / 6, 6),
        ("mine", "strict_prompt_accuracy"): (2 / 4, 4),
        ("mine", "strict_instruction_accuracy"): (4 / 6, 6),
        ("mine", "strict_prompt_gain"): (1 / 4, 4),
        ("mine", "loose_prompt_accuracy"): (3 / 4, 4),
        ("mine", "loose_instruction_accuracy"): (5 / 6, 6),
        ("mine", "loose_prompt_gain"): (2 / 4, 4),
    }
    assert found[["ci_low", "ci_high"]].isna().all(axis=None)  # fewer than eight prompts

    kinds = accuracies_by_kind(check_answers({"en": rows}, {"mine": {"en": mine}}))
    assert list(kinds) == list(KIND_COLUMNS)
    assert {(r.constraint, r.measure): (r.value, r.items) for r in kinds.itertuples()} == {
        (NO_COMMA.id, "strict_instruction_accuracy"): (3 / 3, 3),
        (NO_COMMA.id, "loose_instruction_accuracy"): (3 / 3, 3),
        (QUOTED.id, "strict_instruction_accuracy"): (1 / 3, 3),
        (QUOTED.id, "loose_instruction_accuracy"): (2 / 3, 3),
    }


def test_intervals_of_prompts():
    fulfilled = [True] * 9 + [False] * 3
    theirs = [True] * 6 + [False] * 5 + [True]
    checked = pd.DataFrame(
        [
            (writer, "en", str(place), "k", outcome, outcome)
            for writer, outcomes in (("mine", fulfilled), ("base", theirs))
            for place, outcome in enumerate(outcomes)
        ],
        columns=["writer", "language", "id", "constraint", "strict", "loose"],
    )
    found = accuracies(checked, "base").set_index(["writer", "measure"])
    bounds = found.loc[("mine", "strict_prompt_accuracy"), ["ci_low", "ci_high"]]
    assert bounds.tolist() == pytest.approx(proportion_confint(9, 12, method="wilson"))
    gain = found.loc[("mine", "strict_prompt_gain")]
    assert gain["value"] == pytest.approx((3 - 1) / 12)
    assert gain[["ci_low", "ci_high"]].tolist() == pytest.approx(paired_interval(3, 1, 12))
    assert not any("gain" in measure for writer, measure in found.index if writer == "base")


def test_constraints_of_a_prompt_are_a_cluster():
    values = np.array([1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1, 1, 0, 1], float)
    clusters = np.array([0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7, 8])
    fit = OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    share, variance = values.mean(), float(fit.cov_params()[0, 0])
    effective = share * (1 - share) / variance
    assert effective < len(values)
    expected = proportion_confint(share * effective, effective, method="wilson")
    assert share_interval(values, clusters) == pytest.approx(expected)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_where_nothing_varies_the_clusters_are_what_is_known(outcome):
    values, clusters = np.full(20, outcome), np.repeat(np.arange(10), 2)
    expected = proportion_confint(10 * outcome, 10, method="wilson")
    assert share_interval(values, clusters) == pytest.approx(expected)
    assert share_interval(values[:16], clusters[:16]) == pytest.approx(
        proportion_confint(8 * outcome, 8, method="wilson")
    )
    assert all(np.isnan(share_interval(values[:14], clusters[:14])))


@pytest.mark.parametrize(("better", "worse", "n"), [(3, 1, 12), (0, 0, 16), (1, 0, 44), (9, 2, 40), (0, 8, 8)])
def test_paired_intervals_are_where_the_score_test_is_at_five_per_cent(better, worse, n):
    """The score test by its definition: the likeliest shares given the difference, found numerically."""

    def score(d):
        def minus_likelihood(q):
            shares = (q + d, better), (q, worse), (1 - 2 * q - d, n - better - worse)
            return -sum(count * np.log(max(share, 1e-300)) for share, count in shares)

        low, high = max(0.0, -d), (1 - d) / 2
        q = minimize_scalar(minus_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
        return (better - worse - n * d) / np.sqrt(n * (2 * q + d - d**2))

    low, high = paired_interval(better, worse, n)
    assert low <= (better - worse) / n <= high
    if low > -1:
        assert score(low) == pytest.approx(1.959964, abs=1e-3)
    if high < 1:
        assert score(high) == pytest.approx(-1.959964, abs=1e-3)


def test_paired_intervals_mirror():
    low, high = paired_interval(5, 2, 20)
    assert paired_interval(2, 5, 20) == pytest.approx((-high, -low))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda answers: answers[:1], "no answer to 'b'"),
        (lambda answers: [*answers, {**answers[0], "sample": 1}], "several answers to 'a'"),
        (lambda answers: [answers[0], {**answers[1], "prompt": answers[0]["prompt"]}], "'b' is to another prompt"),
    ],
)
def test_answers_that_do_not_belong(tmp_path, change, why):
    rows = [row("a", NO_COMMA), row("b", NO_COMMA)]
    path = write(tmp_path / "answers.parquet", rows, ["x", "y"])
    save_rows(change(pd.read_parquet(path).to_dict("records")), path)
    with pytest.raises(StudyError, match=why):
        check_answers({"en": rows}, {"base": {"en": path}})
