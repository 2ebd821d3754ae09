"""Every table against values worked out by hand."""

import math
import subprocess
import sys

import numpy as np
import pandas as pd
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
    "chance": ["section", "chance", "n"],
    "seeds": [
        *("base_model", "train_language", "eval_language", "section"),
        *("mean", "sd", "ci_low", "ci_high", "seeds", "df", "n"),
    ],
    "significance": [
        *("eval_language", "base_a", "train_a", "base_b", "train_b", "family"),
        *("difference", "ci_low", "ci_high", "p_value", "p_holm", "p_items", "n", "seeds"),
    ],
    "headline": ["base_model", "comparison", "difference", "ci_low", "ci_high", "comparisons", "n", "seeds"],
    "variance": ["base_model", "component", "df", "sd", "variance", "share"],
    "translation_gap": [
        *("target", "varied", "base_model", "train_language", "part"),
        *("difference", "ci_low", "ci_high", "n", "seeds"),
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
    *("base_a", "train_a", "base_b", "train_b", "family", "component", "comparison"),
}


def test_every_measure_gives_the_columns_that_it_describes():
    assert len(MEASURES) == len(COLUMNS) == 13
    evaluation = evaluation_of(study())
    for name, measure in MEASURES.items():
        assert list(measure.columns) == COLUMNS[name]
        assert all(measure.columns.values())
        assert measure.about.endswith(".")
        rows = list(measure.rows(evaluation))
        assert bool(rows) == (
            name != "translation_gap"
        )  # there is no round trip; tests/transfer/test_controls.py has one
        for row in rows:
            texts = {column for column, value in zip(COLUMNS[name], row, strict=True) if isinstance(value, str)}
            assert texts == set(COLUMNS[name]) & NAMES, name


def test_tables_are_written_with_these_columns_even_where_nothing_is_measured(tmp_path):
    _, tables = evaluate(tmp_path, rows_of({("m", "-", 0, "es"): [True]}), contaminated=["r0"])
    assert {name: list(table.columns) for name, table in tables.items()} == COLUMNS
    assert {name for name, table in tables.items() if table.empty} == {
        *("transfer_clean", "significance", "consistency", "headline", "variance", "translation_gap")
    }


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
        ("m", "ko", 0, "es"): half,
        ("m", "it-zh", 0, "es"): [True] * n,
        ("m", "mix", 0, "es"): half,
        ("k", "es", 0, "es"): [True] * n,
        ("other", "-", 0, "es"): [False] * n,
    }
    table = measured("significance", rows_of(cells))
    assert len(table) == 7 * 6 / 2
    names = table[["base_a", "train_a", "base_b", "train_b"]].itertuples(index=False)
    assert len({frozenset([line[:2], line[2:]]) for line in names}) == 21
    inside = table[table["family"] != "other"].set_index("train_a")
    # Only the same base's model trained in Spanish is the one to compare to, and it comes second; k has none of its own.
    # The mixture is of English and Spanish.
    assert (inside[["base_a", "base_b", "train_b"]] == ["m", "m", "es"]).all(axis=None)
    assert inside["family"].to_dict() == {"en": "primary", "ko": "in-language", "it-zh": "in-language"}
    assert inside["difference"].to_dict() == pytest.approx({"en": 0.5, "ko": 0, "it-zh": 0.5})
    once = 1 / 100_001
    assert inside["p_value"].to_dict() == pytest.approx({"en": once, "ko": 1, "it-zh": once})
    # One test in the primary family, two in the other.
    assert inside["p_holm"].to_dict() == pytest.approx({"en": once, "ko": 1, "it-zh": 2 * once})
    assert (inside["p_items"] == inside["p_value"]).all()
    half_width = stats.t.ppf(0.975, n - 1) * np.std([0] * 100 + [1] * 100, ddof=1) / math.sqrt(n)
    assert inside.loc["en", ["ci_low", "ci_high"]].tolist() == pytest.approx([0.5 - half_width, 0.5 + half_width])
    assert inside.loc["ko", ["ci_low", "ci_high"]].tolist() == [0, 0]
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


def test_of_two_models_and_several_seeds_the_pairs_of_seeds_are_tested():
    """Two models in one language: the grid of seeds is the pair itself; items vary as in a paired t test."""
    generator = np.random.default_rng(5)
    right = {(t, k): generator.random(50) < 0.3 + 0.15 * k * (t == "es") for t in ("en", "es") for k in (1, 2, 3)}
    table = measured("significance", rows_of({("m", t, k, "es"): these for (t, k), these in right.items()}))
    d = np.stack([right["en", k].astype(float) - right["es", k] for k in (1, 2, 3)], axis=1)
    residuals = d - d.mean(axis=1, keepdims=True) - d.mean(axis=0) + d.mean()
    parts = [
        (d.mean(axis=1).var(ddof=1) / 50, 49),
        (d.mean(axis=0).var(ddof=1) / 3, 2),
        (-(residuals**2).sum() / 49 / 2 / 50 / 3, 98),
    ]
    variance = sum(value for value, _ in parts)
    assert variance > parts[0][0]
    # The seeds' mean square is more than all of it: its two degrees of freedom are all there is.
    assert parts[1][0] > variance
    half = stats.t.ppf(0.975, 2) * math.sqrt(variance)
    line = table.iloc[0]
    assert line[["family", "seeds"]].tolist() == ["primary", 3]
    assert line[["ci_low", "ci_high"]].tolist() == pytest.approx([d.mean() - half, d.mean() + half])
    p = 2 * stats.t.sf(abs(d.mean()) / math.sqrt(variance), 2)
    assert line["p_value"] == line["p_holm"] == pytest.approx(p)
    assert line["p_items"] < line["p_value"]


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
    # One seed: Wilson's interval of a share of p (1 - p) / variance items, with the quantile of a t.
    p, n, t = 0.25, 0.25 * 0.75 / (0.25 / 4), stats.t.ppf(0.975, 3)
    centre = (p + t * t / (2 * n)) / (1 + t * t / n)
    half = t * math.sqrt(p * (1 - p) / n + t * t / (4 * n * n)) / (1 + t * t / n)
    assert table.loc["other", ["ci_low", "ci_high"]].tolist() == pytest.approx([centre - half, centre + half])
    # Two seeds: items 1, 1, 1/2, 1/2 and seeds 1, 1/2, less their interaction (all residuals 1/4).
    parts = [(1 / 12 / 4, 3), (0.125 / 2, 1), (-(8 / 16) / 3 / 4 / 2, 3)]
    variance = sum(value for value, _ in parts)
    assert parts[1][0] == pytest.approx(variance)  # so that the seeds' one degree of freedom is all there is
    assert table.loc["m", "df"] == pytest.approx(1)
    assert table.loc["m", "ci_high"] < 1


def test_an_accuracy_that_never_varies_keeps_an_interval():
    table = measured("seeds", rows_of({("m", "en", seed, "en"): [True] * 20 for seed in (0, 1)}))
    line = table.iloc[-1]
    expected = stats.binomtest(20, 20).proportion_ci(0.95, method="wilson")
    assert (line["mean"], line["sd"]) == pytest.approx((1, 0))
    assert line[["ci_low", "ci_high"]].tolist() == pytest.approx([expected.low, expected.high])
    assert line.isna()["df"]


def test_an_accuracy_that_never_varies_has_the_seeds_of_the_others():
    """One model is always right; the other is right on all or on half of the items, by its seed."""
    n = 20
    right = {("en", 0): [True] * n, ("en", 1): [True] * n, ("es", 0): [True] * n, ("es", 1): [True, False] * (n // 2)}
    table = measured("seeds", rows_of({("m", t, k, "en"): these for (t, k), these in right.items()}))
    line = table[table["section"] == "average"].set_index("train_language").loc["en"]
    # Seeds, and seeds x training language: deviations of +-1/8 in both models, and as much again; a cell holds half of each
    # mean square. Items: deviations of 1/4 of the other model's, a quarter of that in each.
    square, of_items = 4 / 8**2, 4 / 8**2 / (n - 1)
    assert line["mean"] == pytest.approx(1)
    variance = (square - of_items) / 2  # of the mean of two seeds
    df = 2  # two equal mean squares of one each, beside which nothing varies
    assert line["df"] == pytest.approx(df)
    t = stats.t.ppf(0.975, df)
    items = min(n, 2 * (n + 2) / (n + 4) ** 2 / variance)
    assert items < n
    assert line["ci_low"] == pytest.approx(items / (items + t * t))


def test_clusters_of_one_change_nothing():
    frames = study()
    named = {key: frame.assign(cluster=[f"c{i}" for i in frame["id"]]) for key, frame in frames.items()}
    for name in MEASURES:
        pd.testing.assert_frame_equal(measured(name, named), measured(name, frames), check_exact=True)


def test_copies_in_clusters_say_no_more_than_the_items():
    def copied(frame, clustered):
        rows = pd.concat([frame.assign(id=frame["id"] + f"/{copy}") for copy in range(4)], ignore_index=True)
        return rows.assign(cluster=list(frame["id"]) * 4) if clustered else rows

    once = study()
    frames, loose = ({key: copied(frame, c) for key, frame in once.items()} for c in (True, False))
    keys = ["base_model", "train_language", "eval_language", "section"]
    for name, bounds in (("seeds", ["mean", "ci_low", "ci_high"]), ("significance", ["p_value", "p_items", "ci_low"])):
        found, expected = measured(name, frames)[bounds], measured(name, once)[bounds]
        pd.testing.assert_frame_equal(found, expected, check_exact=False, atol=1e-9)
    wide, narrow = (measured("transfer", f).set_index([*keys, "seed"]) for f in (frames, loose))
    apart = wide["ci_high"] - wide["ci_low"] > 1.4 * (narrow["ci_high"] - narrow["ci_low"])
    assert apart.all()
    agreement = measured("consistency", frames)
    pd.testing.assert_frame_equal(agreement.drop(columns="n"), measured("consistency", once).drop(columns="n"))


def test_chance_of_pairs_and_of_answers():
    assert measured("chance", rows_of({("m", "en", 0, "en"): [True] * 3})).to_numpy().tolist() == [
        ["Chat", 0.5, 3],
        ["average", 0.5, 3],
    ]
    rows = scores([True] * 3, ["Math"] * 3).assign(id=[f"7/0/{j}" for j in range(3)])
    table = measured("chance", {("m", "en", 0, "en"): rows}, "rewardbench2")
    assert table.to_numpy().tolist() == [["Math", 0.25, 1], ["average", 0.25, 1]]


def test_chance_of_ties_is_the_mean_score_of_random_rewards():
    """One right and one wrong answer in both parts: each part is right half the time, independently; no spread."""
    rows = scores([True] * 2, ["Ties"] * 2).assign(id=["ref:3/0/0", "tied:3/0/0"])
    table = measured("chance", {("m", "en", 0, "en"): rows}, "rewardbench2")
    # 0.3 + 0.3 + 0.2 for half each, 0.2 for a quarter; the last term is 0.
    assert table["chance"].tolist() == pytest.approx([0.45, 0.45], abs=0.01)


def test_components_of_variance_and_what_they_make_of_an_accuracy():
    """Seeds move every language alike, by known amounts: no difference is moved."""
    languages = ("en", "es", "ko")
    right = {seed: [True] * (20 + 8 * seed) + [False] * (20 - 8 * seed) for seed in (0, 1, 2)}
    cells = {("m", t, seed, e): these for seed, these in right.items() for t in languages for e in languages}
    table = measured("variance", rows_of(cells)).set_index("component")
    assert len(table) == 15 + 2
    assert table["base_model"].eq("m").all()
    assert table["share"].sum() == pytest.approx(1)
    outcomes = np.array(list(right.values()), float)
    residuals = outcomes - outcomes.mean(axis=1, keepdims=True)
    of_items = (residuals - residuals.mean(axis=0)).var(axis=0, ddof=0).sum() * 3 / 2 / 39 / 40
    seeds = outcomes.mean(axis=1).var(ddof=1) - of_items
    assert table.loc["seed", ["variance", "df"]].tolist() == pytest.approx([seeds, 2])
    assert table.loc["another seed: an accuracy", "sd"] == pytest.approx(100 * math.sqrt(seeds))
    assert table.loc["another seed: a difference", "sd"] == pytest.approx(0, abs=1e-4)
    assert table.loc["train_language", "sd"] == pytest.approx(0, abs=1e-4)


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
