"""Every table against values worked out by hand."""

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from conftest import ROOT
from rmtransfer.kit.errors import StudyError
from rmtransfer.transfer.measures import MEASURES
from score_rows import evaluate, evaluation_of, measured, rows_of, scores, study

SCORER = ["base_model", "train_language", "seed"]
COLUMNS = {
    "transfer": [*SCORER, "eval_language", "section", "accuracy", "ci_low", "ci_high", "n"],
    "length_baseline": ["base_model", "eval_language", "subset", "accuracy", "n"],
    "seeds": ["base_model", "train_language", "eval_language", "section", "mean", "sd", "ci_low", "ci_high", "seeds"],
    "significance": [
        *("eval_language", "base_a", "train_a", "base_b", "train_b", "family"),
        *("difference", "ci_low", "ci_high", "p_value", "p_holm", "n", "seeds"),
    ],
    "consistency": [*SCORER, "eval_language", "kappa", "ci_low", "ci_high", "agreement", "n"],
    "rewards": [*SCORER, "eval_language", "what", "mean", "sd", "q05", "q25", "q50", "q75", "q95", "n"],
    "calibration": [*SCORER, "eval_language", "ece", "confidence", "accuracy", "ties", "n"],
    "length_bias": [
        *(*SCORER, "eval_language", "accuracy_longer", "n_longer", "accuracy_shorter", "n_shorter", "spearman", "n")
    ],
}
COLUMNS["transfer_clean"] = COLUMNS["transfer"]
NAMES = {
    *("base_model", "train_language", "eval_language", "section", "subset", "what"),
    *("base_a", "train_a", "base_b", "train_b", "family"),
}


def test_every_measure_gives_the_columns_that_it_describes():
    assert len(MEASURES) == len(COLUMNS) == 9
    evaluation = evaluation_of(study())
    for name, measure in MEASURES.items():
        assert list(measure.columns) == COLUMNS[name]
        assert all(measure.columns.values())
        assert measure.about.endswith(".")
        rows = list(measure.rows(evaluation))
        assert rows
        for row in rows:
            texts = {column for column, value in zip(COLUMNS[name], row, strict=True) if isinstance(value, str)}
            assert texts == set(COLUMNS[name]) & NAMES, name


def test_tables_are_written_with_these_columns_even_where_nothing_is_measured(tmp_path):
    _, tables = evaluate(tmp_path, rows_of({("m", "-", 0, "es"): [True]}), contaminated=["r0"])
    assert {name: list(table.columns) for name, table in tables.items()} == COLUMNS
    assert {name for name, table in tables.items() if table.empty} == {"transfer_clean", "significance", "consistency"}


def test_the_list_of_measures_imports_nothing_heavy():
    code = "import sys; before = {*sys.modules}; import rmtransfer.transfer.measures; print(*{*sys.modules} - before)"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "workflow", capture_output=True, text=True, check=True
    )
    loaded = {module.partition(".")[0] for module in run.stdout.split()}
    assert loaded - sys.stdlib_module_names == {"rmtransfer"}


def section_table(correct, subsets, sections="rewardbench"):
    return measured("transfer", rows_of({("m", "en", 0, "en"): correct}, subsets), sections)


def test_section_accuracy_weights_subsets_by_their_counts():
    # mt-bench-easy counts 28 and mt-bench-med 40: (28 * 1/2 + 40 * 3/4) / 68, whatever the rows in the file.
    table = section_table([True, False, True, True, True, False], ["mt-bench-easy"] * 2 + ["mt-bench-med"] * 4)
    assert table["section"].tolist() == ["Chat", "average"]
    assert table["accuracy"].tolist() == pytest.approx([44 / 68, 44 / 68])
    # Each easy row weighs 28/68/2, each med row 40/68/4.
    effective = 1 / (2 * (14 / 68) ** 2 + 4 * (10 / 68) ** 2)
    p, z = 44 / 68, stats.norm.ppf(0.975)
    centre = (p + z * z / (2 * effective)) / (1 + z * z / effective)
    half = z * math.sqrt(p * (1 - p) / effective + z * z / (4 * effective**2)) / (1 + z * z / effective)
    assert table.loc[0, "ci_low"] == pytest.approx(centre - half)
    assert table.loc[0, "ci_high"] == pytest.approx(centre + half)


def test_plain_section_interval_is_scipys_wilson():
    table = section_table([True] * 11 + [False] * 4, ["safety"] * 15)
    expected = stats.binomtest(11, 15).proportion_ci(0.95, method="wilson")
    assert (table.loc[0, "ci_low"], table.loc[0, "ci_high"]) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("sections", ["rewardbench", "m_rewardbench"])
def test_average_is_the_plain_mean_of_sections(sections):
    table = section_table([True, True, True, False, False], ["chat"] * 4 + ["reasoning"], sections)
    assert table["accuracy"].tolist() == pytest.approx([0.75, 0.0, 0.375])
    assert table["section"].tolist() == ["Chat", "Reasoning", "average"]
    assert table["n"].tolist() == [4, 1, 5]


def test_a_tie_is_wrong():
    table = measured("transfer", {("m", "en", 0, "en"): scores([True]).assign(reward_chosen=0.5)})
    assert table["accuracy"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("subset", ["no-such-subset", None])
def test_an_unknown_subset_is_named(subset):
    with pytest.raises(StudyError, match=repr(subset)):
        evaluation_of(rows_of({("m", "en", 0, "en"): [True, True]}, ["chat", subset]))


def test_length_baseline_counts_ties_as_wrong():
    frame = scores([True] * 4, ["chat"] * 2 + ["safety"] * 2)
    frame["tokens_chosen"] = [10, 9, 8, 10]
    table = measured("length_baseline", {("m", "en", 0, "en"): frame}).set_index("subset")["accuracy"]
    assert table.to_dict() == {"chat": 0.5, "safety": 0.5, "average": 0.5}


def test_length_baseline_is_one_a_tokenizer_and_language_from_the_text_itself():
    translated, own = scores([True], tokens=(1, 2)), scores([True], tokens=(2, 1))
    keys = [("m", "translate-test", 0, "es"), ("m", "en", 0, "es"), ("m", "es", 0, "es"), ("other", "-", 0, "es")]
    none = scores([True]).assign(tokens_chosen=None, tokens_rejected=None)
    table = measured("length_baseline", dict(zip(keys, [translated, own, translated, none], strict=True)))
    assert table["base_model"].tolist() == ["m", "m"]
    assert table["accuracy"].tolist() == [1, 1]


def test_significance_by_hand():
    n = 200
    half = [True] * (n // 2) + [False] * (n // 2)
    cells = {
        ("m", "es", 0, "es"): half,
        ("m", "en", 0, "es"): [True] * n,
        ("m", "mix", 0, "es"): half,
        ("k", "es", 0, "es"): [True] * n,
        ("other", "-", 0, "es"): [False] * n,
    }
    table = measured("significance", rows_of(cells))
    assert len(table) == 5 * 4 / 2
    names = table[["base_a", "train_a", "base_b", "train_b"]].itertuples(index=False)
    assert len({frozenset([line[:2], line[2:]]) for line in names}) == 10
    inside = table[table["family"] == "in-language"].set_index("train_a")
    # Only the same base's model trained in Spanish is the one to compare to, and it comes second; k has none of its own.
    assert (inside[["base_a", "base_b", "train_b"]] == ["m", "m", "es"]).all(axis=None)
    assert inside["difference"].to_dict() == pytest.approx({"en": 0.5, "mix": 0})
    assert inside["p_value"].to_dict() == pytest.approx({"en": 1 / 100_001, "mix": 1})
    assert inside["p_holm"].to_dict() == pytest.approx({"en": 2 / 100_001, "mix": 1})
    assert table["family"].value_counts().to_dict() == {"other": 8, "in-language": 2}
    deviation = 1.96 * 0.5 / math.sqrt(n)
    assert inside.loc["en", ["ci_low", "ci_high"]].tolist() == pytest.approx(
        [0.5 - deviation, 0.5 + deviation], abs=0.01
    )
    assert inside.loc["mix", ["ci_low", "ci_high"]].tolist() == [0, 0]
    assert table["n"].eq(n).all()
    assert table["seeds"].eq(1).all()


def test_holm_is_over_all_languages_of_a_family():
    cells = {
        ("m", train, 0, language): [train == language] * 30
        for train in ("es", "ko", "it")
        for language in ("es", "ko", "it")
    }
    table = measured("significance", rows_of(cells))
    inside = table[table["family"] == "in-language"]
    assert len(inside) == 6
    assert inside["difference"].tolist() == pytest.approx([-1] * 6)
    assert inside["p_holm"].tolist() == pytest.approx([6 / 100_001] * 6)


def test_seeds_by_hand():
    cells = {
        ("m", "en", 1, "en"): [True] * 4,
        ("m", "en", 2, "en"): [True, True, False, False],
        ("other", "-", 0, "en"): [True, False, False, False],
    }
    table = measured("seeds", rows_of(cells))
    table = table[table["section"] == "average"].set_index("base_model")
    assert table["mean"].to_dict() == {"m": 0.75, "other": 0.25}
    assert table.loc["m", "sd"] == pytest.approx(math.sqrt(0.125))
    assert math.isnan(table.loc["other", "sd"])
    assert table["seeds"].to_dict() == {"m": 2, "other": 1}
    # Both seeds are the good one in a quarter of the draws, so one is within the interval.
    assert table.loc["m", "ci_high"] == 1
    # Only items are drawn for one seed: 4 of them with one right, at the 2.5 % and 97.5 % points of the binomial.
    points = stats.binom.ppf([0.025, 0.975], 4, 0.25) / 4
    assert table.loc["other", ["ci_low", "ci_high"]].tolist() == points.tolist()


def test_tables_of_rewards_calibration_and_length_by_hand():
    rewards, longer = np.array([2.0, -1.0, 0.0, 3.0, -2.0]), np.array([3, 2, -1, -4, 0])
    rows = scores([True] * 5).assign(
        reward_chosen=rewards, reward_rejected=0.0, tokens_chosen=10 + longer, tokens_rejected=10
    )
    cell = {("m", "en", 0, "es"): rows}
    table = measured("rewards", cell).set_index("what")
    assert table.index.tolist() == ["chosen", "rejected", "margin"]
    assert table.loc["margin", ["mean", "sd", "q05", "q50", "q95", "n"]].tolist() == pytest.approx(
        [0.4, np.std(rewards, ddof=1), -1.8, 0, 2.8, 5]
    )
    assert table.loc["rejected", ["mean", "sd", "q25", "q75"]].tolist() == [0] * 4

    # Confidences 0.88, 0.73, 0.5, 0.95, 0.88: the first and last share a bin with one of two right.
    p = 1 / (1 + np.exp(-np.abs(rewards)))
    line = measured("calibration", cell).iloc[0]
    assert line["ece"] == pytest.approx((2 * abs(0.5 - p[0]) + p[1] + p[2] + (1 - p[3])) / 5)
    assert line["confidence"] == pytest.approx(p.mean())
    assert line[["accuracy", "ties", "n"]].tolist() == [0.4, 1, 5]

    line = measured("length_bias", cell).iloc[0]
    assert line[["accuracy_longer", "n_longer", "accuracy_shorter", "n_shorter", "n"]].tolist() == [0.5, 2, 0.5, 2, 5]
    assert line["spearman"] == pytest.approx(stats.spearmanr(rewards, longer).statistic)


def test_length_bias_without_variation_or_tokens():
    none = scores([True] * 3).assign(tokens_chosen=None, tokens_rejected=None)
    cells = {("m", "en", 0, "en"): scores([True] * 3), ("other", "-", 0, "en"): none}
    (line,) = measured("length_bias", cells).to_dict("records")
    assert (line["base_model"], line["accuracy_longer"], line["n_longer"], line["n_shorter"]) == ("m", 1, 3, 0)
    assert math.isnan(line["accuracy_shorter"])
    assert math.isnan(line["spearman"])


def test_consistency_by_hand():
    cells = {
        ("m", "en", 0, "en"): [True, True, False, False],
        ("m", "en", 0, "es"): [True, True, True, False],
        ("m", "en", 0, "ko"): [True, True, False, False],
        ("k", "en", 0, "es"): [True, False, True, False],  # not scored in the source language
    }
    table = measured("consistency", rows_of(cells))
    assert table[["base_model", "eval_language"]].to_numpy().tolist() == [["m", "es"], ["m", "ko"]]
    # agreement 3/4, chance 1/2 * 3/4 + 1/2 * 1/4
    assert table["kappa"].tolist() == pytest.approx([0.5, 1])
    assert table["agreement"].tolist() == [0.75, 1]
    assert table.loc[1, ["ci_low", "ci_high"]].tolist() == [1, 1]
    assert table.loc[0, "ci_low"] < 0.5 < table.loc[0, "ci_high"]
