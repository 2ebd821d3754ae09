"""Tables and the answer against values worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rmtransfer.kit.errors import StudyError
from rmtransfer.transfer import transfer
from rmtransfer.transfer.statistics import Resamples, interval

JUDGE = ["base_model", "train_language", "seed"]
COLUMNS = {
    "transfer": [*JUDGE, "eval_language", "section", "accuracy", "ci_low", "ci_high", "n"],
    "length_baseline": ["base_model", "eval_language", "subset", "accuracy", "n"],
    "seeds": ["base_model", "train_language", "eval_language", "section", "mean", "sd", "ci_low", "ci_high", "seeds"],
    "significance": [
        *("eval_language", "base_a", "train_a", "base_b", "train_b", "family"),
        *("difference", "ci_low", "ci_high", "p_value", "p_holm", "n", "seeds"),
    ],
    "consistency": [*JUDGE, "eval_language", "kappa", "ci_low", "ci_high", "agreement", "n"],
    "rewards": [*JUDGE, "eval_language", "what", "mean", "sd", "q05", "q25", "q50", "q75", "q95", "n"],
    "calibration": [*JUDGE, "eval_language", "ece", "confidence", "accuracy", "ties", "n"],
    "length_bias": [
        *(*JUDGE, "eval_language", "accuracy_longer", "n_longer", "accuracy_shorter", "n_shorter", "spearman", "n")
    ],
}
COLUMNS["transfer_clean"] = COLUMNS["transfer"]


def scores(correct, subsets=None, language="en", tokens=(10, 9)):
    """Score rows: a right one has margin 0.5, a wrong one -0.5."""
    n = len(correct)
    return pd.DataFrame(
        {
            "id": [f"r{i}" for i in range(n)],
            "subset": subsets or ["chat"] * n,
            "language": language,
            "reward_chosen": np.where(correct, 1.0, 0.0),
            "reward_rejected": 0.5,
            "tokens_chosen": tokens[0],
            "tokens_rejected": tokens[1],
        }
    )


def outcomes_of(cells, subsets=None, sections="rewardbench"):
    """Outcomes from (base, train, seed, language) to what is right."""
    return transfer.Outcomes({(key[:3], key[3]): scores(c, subsets) for key, c in cells.items()}, sections)


def resamples_of(outcomes):
    return Resamples(outcomes.items["subset"].to_numpy())


def section_table(correct, subsets, sections="rewardbench"):
    return transfer.transfer_table(outcomes_of({("m", "en", 0, "en"): correct}, subsets, sections))


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
    frame = scores([True]).assign(reward_chosen=0.5)
    table = transfer.transfer_table(transfer.Outcomes({(("m", "en", 0), "en"): frame}, "rewardbench"))
    assert table["accuracy"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("subset", ["no-such-subset", None])
def test_an_unknown_subset_is_named(subset):
    with pytest.raises(StudyError, match=repr(subset)):
        outcomes_of({("m", "en", 0, "en"): [True, True]}, ["chat", subset])


def test_length_baseline_counts_ties_as_wrong():
    frame = scores([True] * 4, ["chat"] * 2 + ["safety"] * 2)
    frame["tokens_chosen"] = [10, 9, 8, 10]
    table = transfer.length_baseline({(("m", "en", 0), "en"): frame}, "rewardbench").set_index("subset")["accuracy"]
    assert table.to_dict() == {"chat": 0.5, "safety": 0.5, "average": 0.5}


def test_length_baseline_is_one_a_tokenizer_and_language_from_the_text_itself():
    translated, own = scores([True], tokens=(1, 2)), scores([True], tokens=(2, 1))
    keys = [("m", "translate-test", 0), ("m", "en", 0), ("m", "es", 0), ("other", "-", 0)]
    none = scores([True]).assign(tokens_chosen=None, tokens_rejected=None)
    frames = dict(zip(keys, [translated, own, translated, none], strict=True))
    table = transfer.length_baseline({(judge, "es"): frame for judge, frame in frames.items()}, "rewardbench")
    assert table["base_model"].tolist() == ["m", "m"]
    assert table["accuracy"].tolist() == [1, 1]


def advantage_of(ours, theirs):
    everything = [True] * len(ours)
    return outcomes_of(
        {
            ("m", "en", 0, "en"): everything,
            ("m", "en", 0, "es"): ours,
            ("m", "es", 0, "es"): theirs,
            ("m", "es", 0, "en"): everything,
        }
    )


def test_source_advantage_is_the_paired_difference():
    outcomes = advantage_of([True, True, True, False], [True, False, True, True])
    difference, low, high, n = transfer.source_advantage(outcomes, "en", resamples_of(outcomes))
    assert (difference, n) == (0.0, 4)
    assert low < 0 < high


def test_source_advantage_interval_matches_the_normal_one():
    generator = np.random.default_rng(0)
    ours, theirs = generator.random(400) < 0.8, generator.random(400) < 0.7
    d = ours.astype(float) - theirs
    outcomes = advantage_of(ours, theirs)
    difference, low, high, _ = transfer.source_advantage(outcomes, "en", resamples_of(outcomes))
    assert difference == pytest.approx(d.mean())
    half = 1.96 * d.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((d.mean() - half, d.mean() + half), abs=0.006)


def test_source_advantage_is_the_mean_over_languages_bases_and_seeds():
    right, wrong = [True] * 2, [False] * 2
    cells = {("m", train, 0, language): wrong for train in ("en", "es", "ko") for language in ("en", "es", "ko")}
    cells |= {("m", "en", 0, "es"): right}  # es: +1, ko: 0
    cells |= {("m", train, 1, "es"): right for train in ("en", "es")}  # 0
    cells |= {("k", "en", 0, "ko"): wrong, ("k", "ko", 0, "ko"): right}  # -1
    cells |= {("other", "-", 0, "es"): right, ("m", "mix", 0, "es"): right}  # no part in it
    outcomes = outcomes_of(cells)
    assert transfer.source_advantage(outcomes, "en", resamples_of(outcomes))[0] == pytest.approx((1 + 0 + 0 - 1) / 4)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (True, False, ["100.0 points above", "excludes zero", "1 is (0 of them to the disadvantage"]),
        (False, True, ["100.0 points below", "excludes zero", "1 is (1 of them to the disadvantage"]),
        (True, True, ["as accurate as", "includes zero", "none is significant"]),
    ],
)
def test_headline_says_which_way_it_falls(ours, theirs, words):
    outcomes = advantage_of([ours] * 20, [theirs] * 20)
    resamples = resamples_of(outcomes)
    sentence = transfer.headline(outcomes, transfer.significance_table(outcomes, resamples), "en", resamples)
    assert all(word in sentence for word in [*words, "over es", "20 benchmark pairs", "Of 2 differences"])


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
    outcomes = outcomes_of(cells)
    table = transfer.significance_table(outcomes, resamples_of(outcomes))
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
    outcomes = outcomes_of(cells)
    table = transfer.significance_table(outcomes, resamples_of(outcomes))
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
    outcomes = outcomes_of(cells)
    table = transfer.seeds_table(outcomes, resamples_of(outcomes))
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
    cell = {(("m", "en", 0), "es"): rows}
    table = transfer.rewards_table(cell).set_index("what")
    assert table.index.tolist() == ["chosen", "rejected", "margin"]
    assert table.loc["margin", ["mean", "sd", "q05", "q50", "q95", "n"]].tolist() == pytest.approx(
        [0.4, np.std(rewards, ddof=1), -1.8, 0, 2.8, 5]
    )
    assert table.loc["rejected", ["mean", "sd", "q25", "q75"]].tolist() == [0] * 4

    # Confidences 0.88, 0.73, 0.5, 0.95, 0.88: the first and last share a bin with one of two right.
    p = 1 / (1 + np.exp(-np.abs(rewards)))
    line = transfer.calibration_table(cell).iloc[0]
    assert line["ece"] == pytest.approx((2 * abs(0.5 - p[0]) + p[1] + p[2] + (1 - p[3])) / 5)
    assert line["confidence"] == pytest.approx(p.mean())
    assert line[["accuracy", "ties", "n"]].tolist() == [0.4, 1, 5]

    line = transfer.length_bias_table(cell).iloc[0]
    assert line[["accuracy_longer", "n_longer", "accuracy_shorter", "n_shorter", "n"]].tolist() == [0.5, 2, 0.5, 2, 5]
    assert line["spearman"] == pytest.approx(stats.spearmanr(rewards, longer).statistic)


def test_length_bias_without_variation_or_tokens():
    none = scores([True] * 3).assign(tokens_chosen=None, tokens_rejected=None)
    cells = {(("m", "en", 0), "en"): scores([True] * 3), (("other", "-", 0), "en"): none}
    (line,) = transfer.length_bias_table(cells).to_dict("records")
    assert (line["base_model"], line["accuracy_longer"], line["n_longer"], line["n_shorter"]) == ("m", 1, 3, 0)
    assert math.isnan(line["accuracy_shorter"])
    assert math.isnan(line["spearman"])


def test_consistency_by_hand():
    cells = {
        ("m", "en", 0, "en"): [True, True, False, False],
        ("m", "en", 0, "es"): [True, True, True, False],
        ("m", "en", 0, "ko"): [True, True, False, False],
        ("k", "en", 0, "es"): [True, False, True, False],  # not judged in the source language
    }
    outcomes = outcomes_of(cells)
    table = transfer.consistency_table(outcomes, "en", resamples_of(outcomes))
    assert table[["base_model", "eval_language"]].to_numpy().tolist() == [["m", "es"], ["m", "ko"]]
    # agreement 3/4, chance 1/2 * 3/4 + 1/2 * 1/4
    assert table["kappa"].tolist() == pytest.approx([0.5, 1])
    assert table["agreement"].tolist() == [0.75, 1]
    assert table.loc[1, ["ci_low", "ci_high"]].tolist() == [1, 1]
    assert table.loc[0, "ci_low"] < 0.5 < table.loc[0, "ci_high"]


@pytest.fixture
def evaluate(tmp_path):
    """Run the whole of it on frames of score rows; returns the answer and every table."""

    def run(frames, sections="rewardbench", **options):
        files: dict = {}
        for i, ((*judge, language), frame) in enumerate(frames.items()):
            path = tmp_path / f"scores{i}.parquet"
            frame.assign(language=language).to_parquet(path)
            files.setdefault(tuple(judge), {})[language] = path
        outputs = {name: tmp_path / f"{name}.csv" for name in COLUMNS} | {"answer": tmp_path / "answer.txt"}
        answer = transfer.evaluate_transfer(files, sections, "en", outputs, **options)
        assert outputs["answer"].read_text(encoding="utf-8") == answer + "\n"
        return answer, {name: pd.read_csv(outputs[name], keep_default_na=False, na_values=[""]) for name in COLUMNS}

    return run


def study():
    """Two seeds, a mixture and an off-the-shelf model that lacks Korean."""
    n = 40
    generator = np.random.default_rng(0)
    subsets = ["chat"] * 20 + ["reasoning"] * 20
    frames = {
        ("m", train, seed, language): scores(generator.random(n) < 0.6, subsets)
        for train in ("en", "es", "mix")
        for seed in (1, 2)
        for language in ("en", "es", "ko")
    }
    frames["m", "es", 1, "es"] = scores([True] * 20 + [False] * 20, subsets)
    frames["m", "es", 2, "es"] = scores([True] * 40, subsets)
    for language in ("en", "es"):
        rows = scores([True] * 10 + [False] * 30, subsets)
        frames["armo", "-", 0, language] = rows.assign(tokens_chosen=None, tokens_rejected=None)
    return frames


def test_every_table_of_a_study(evaluate):
    answer, tables = evaluate(study())
    assert {name: list(table.columns) for name, table in tables.items()} == COLUMNS
    assert "The en reward model is" in answer
    assert "on average over es (" in answer  # no model was trained in Korean

    accuracy = tables["transfer"].set_index([*JUDGE, "eval_language", "section"])["accuracy"].sort_index()
    assert len(accuracy) == (6 * 3 + 2) * 3
    assert accuracy["armo", "-", 0, "en"].to_dict() == {"Chat": 0.5, "Reasoning": 0, "average": 0.25}
    assert accuracy["m", "es", 1, "es"].to_dict() == {"Chat": 1, "Reasoning": 0, "average": 0.5}
    assert set(tables["transfer"]["train_language"]) == {"en", "es", "mix", "-"}
    pd.testing.assert_frame_equal(tables["transfer_clean"], tables["transfer"])

    seeds = tables["seeds"].set_index(["base_model", "train_language", "eval_language", "section"])
    assert len(seeds) == (3 * 3 + 2) * 3
    assert seeds.loc[("m", "es", "es", "average"), ["mean", "seeds"]].tolist() == [0.75, 2]
    assert seeds.loc[("m", "es", "es", "average"), "sd"] == pytest.approx(math.sqrt(0.125), abs=1e-6)
    assert math.isnan(seeds.loc[("armo", "-", "en", "average"), "sd"])

    significance = tables["significance"]
    # 4 models in English and Spanish, 3 in Korean; trained in the language and of the same base: 2 each, none in Korean.
    assert significance["eval_language"].value_counts().to_dict() == {"en": 6, "es": 6, "ko": 3}
    inside = significance[significance["family"] == "in-language"]
    assert inside[["eval_language", "train_b"]].value_counts().to_dict() == {("en", "en"): 2, ("es", "es"): 2}
    assert (inside["base_a"] == inside["base_b"]).all()
    assert significance["p_value"].between(1 / 100_001 - 1e-6, 1).all()
    assert (significance["p_holm"] >= significance["p_value"]).all()
    armo = significance[(significance["base_a"] == "armo") | (significance["base_b"] == "armo")]
    assert armo["family"].eq("other").all()
    assert armo["seeds"].eq(1).all()
    line = armo.query("eval_language == 'es' and (train_a == 'es' or train_b == 'es')").iloc[0]
    assert abs(line["difference"]) == pytest.approx(0.5)  # 0.75 over seeds against 0.25

    assert len(tables["consistency"]) == 6 * 2 + 1
    assert tables["consistency"].query("base_model == 'armo'")["kappa"].tolist() == [1]
    assert len(tables["rewards"]) == 20 * 3
    assert len(tables["calibration"]) == 20
    assert set(tables["length_bias"]["base_model"]) == {"m"}
    assert set(tables["length_baseline"]["base_model"]) == {"m"}
    assert tables["length_baseline"]["accuracy"].eq(1).all()


def test_the_same_files_give_the_same_tables(evaluate):
    frames = {key: frame for key, frame in study().items() if key[3] == "es"}
    first, again = evaluate(frames), evaluate(frames)
    assert first[0] == again[0]
    for name in COLUMNS:
        pd.testing.assert_frame_equal(first[1][name], again[1][name])


def test_clean_table_leaves_out_contaminated_rows(evaluate):
    frames = {("m", "en", 0, language): scores([True, False, False, True]) for language in ("en", "es")}
    _, tables = evaluate(frames, contaminated=["r1", "no-row-of-ours"])
    assert tables["transfer"]["accuracy"].tolist() == [0.5] * 4
    assert tables["transfer_clean"]["accuracy"].tolist() == pytest.approx([2 / 3] * 4, abs=1e-6)
    assert tables["transfer_clean"]["n"].tolist() == [3] * 4
    _, tables = evaluate(frames, contaminated=["r0", "r1", "r2", "r3"])
    assert tables["transfer_clean"].empty
    assert list(tables["transfer_clean"].columns) == COLUMNS["transfer_clean"]


def rewardbench2(best):
    """Two best-of-4 items, the second with the given reward of its chosen answer, and two Ties items."""
    rows = [(f"7/0/{j}", "Math", 1.0, 0.0) for j in range(3)]
    rows += [(f"8/0/{j}", "Math", best, float(j)) for j in range(3)]
    for item, chosen in ((0, 3.0), (1, 0.0)):
        rows += [(f"ref:{item}/0/0", "Ties", chosen, 1.0)]
        rows += [(f"tied:{item}/{i}/0", "Ties", chosen, 1.0) for i in range(2)]
    frame = pd.DataFrame(rows, columns=["id", "subset", "reward_chosen", "reward_rejected"])
    return frame.assign(language="en", tokens_chosen=2, tokens_rejected=1)


def test_rewardbench2_counts_items_and_drops_whole_ones(evaluate):
    frames = {("m", "en", 0, "en"): rewardbench2(2.0), ("m", "en", 0, "es"): rewardbench2(1.0)}
    _, tables = evaluate(frames, "rewardbench2", contaminated=["8/0/1", "tied:1/0/0"])
    table = tables["transfer"].set_index(["eval_language", "section"])
    assert table["n"].to_dict() == {
        (e, s): n for e in ("en", "es") for s, n in (("Math", 2), ("Ties", 2), ("average", 4))
    }
    # In English item 8 shares the highest reward with one other, in Spanish it has a higher one against it.
    assert table["accuracy"].tolist() == [0.75, 0.5, 0.625, 0.5, 0.5, 0.5]
    clean = tables["transfer_clean"].set_index(["eval_language", "section"])
    assert clean["n"].tolist() == [1, 1, 2] * 2
    assert clean["accuracy"].tolist() == [1] * 6
    assert tables["consistency"]["n"].tolist() == [4]
    assert tables["calibration"]["n"].tolist() == [12, 12]


def test_ties_beyond_one_are_within_their_interval(evaluate):
    ties = rewardbench2(2.0).query("subset == 'Ties'")
    first = ties["id"].str.endswith("/0/0")
    # Gaps of 99 and more beside a spread of 1: the last term is 0.01 tanh(98), which rounds to 0.01.
    frames = {("m", "en", 0, "en"): ties.assign(reward_chosen=np.where(first, 100.0, 101.0))}
    _, tables = evaluate(frames, "rewardbench2")
    line = tables["transfer"].iloc[0]
    assert line["accuracy"] == pytest.approx(1.01)
    assert line["ci_low"] < 1
    assert line["ci_high"] >= line["accuracy"]


def two(second):
    return {("m", "en", 0, "en"): scores([True, False]), ("m", "en", 0, "es"): second}


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), None])
def test_a_reward_that_is_no_number_is_named(evaluate, reward):
    with pytest.raises(StudyError, match=r"scores1\.parquet: the rewards of 'r1' are not finite"):
        evaluate(two(scores([True, False]).assign(reward_rejected=[0.5, reward])))


def test_a_judge_that_tells_nothing_apart_is_wrong_about_everything(evaluate):
    """A judge that follows the order of the answers gives all of them the same reward: a result, no error."""
    frames = {("judge", "-", 0, language): scores([True] * 4).assign(reward_chosen=0.5) for language in ("en", "es")}
    frames |= {("m", "en", 0, language): scores([True, True, True, False]) for language in ("en", "es")}
    _, tables = evaluate(frames)
    line = tables["transfer"].set_index(["base_model", "eval_language", "section"]).loc[("judge", "es", "average")]
    assert (line["accuracy"], line["ci_low"]) == (0, 0)
    assert tables["calibration"].query("base_model == 'judge'")["ties"].tolist() == [4, 4]
    assert tables["consistency"].query("base_model == 'judge'")["kappa"].isna().all()


def test_other_rows_than_the_others_are_named(evaluate):
    for ids in (["r0", "x"], ["r1", "r0"]):
        with pytest.raises(StudyError, match=r"scores1\.parquet: holds other rows"):
            evaluate(two(scores([True, False]).assign(id=ids)))
    with pytest.raises(StudyError, match=r"scores1\.parquet: holds other rows"):
        evaluate(two(scores([True])))


def test_without_target_models_the_comparison_to_the_in_language_one_is_still_told(evaluate):
    frames = {("m", train, 0, e): scores([train == "en"] * 40) for train in ("en", "mix") for e in ("en", "es")}
    frames["m", "mix", 0, "en"].loc[0, "reward_chosen"] = 1.0
    frames["m", "mix", 0, "es"].loc[0, "reward_chosen"] = 1.0
    for language in ("en", "es"):
        frames["m", "en", 0, language].loc[0, "reward_chosen"] = 0.0
    answer, _ = evaluate(frames)
    first, second, last, _ = answer.splitlines()
    assert first.startswith("m trained in en (seed 0): 97.5 % in en")
    assert second.startswith("m trained in mix (seed 0): 2.5 % in en")
    assert last.startswith("Of 1 difference to the in-language reward model, 1 is (1 of them to the disadvantage")


def test_many_small_differences_are_added_up(evaluate):
    """Six comparisons, each of two items in ten, none significant; on average the own language is 20 points better."""
    right = {True: [True] * 8 + [False] * 2, False: [True] * 6 + [False] * 4}
    frames = {("m", t, 0, e): scores(right[t == e]) for t in ("en", "es", "ko") for e in ("en", "es", "ko")}
    answer, _ = evaluate(frames)
    assert "Of 6 differences to the in-language reward model, none is significant" in answer
    assert (
        "On average the model from elsewhere is 20.0 points below the in-language one (95 % interval -50.0 to" in answer
    )


def test_an_interval_that_ends_at_zero_includes_it():
    """0.1 + 0.2 - 0.3 is not 0 in floating point."""
    low, high = interval(np.full(100, 0.3 - 0.1 - 0.2))
    assert (low, high) == (0, 0)
    assert math.copysign(1, low) == 1


def test_sections_without_rows_are_named(evaluate):
    rows = scores([True, False, True]).assign(subset=["chat", "llmbar-natural", "chat"])
    answer, tables = evaluate({("m", "en", 0, "en"): rows})
    assert answer.endswith("no rows in Safety, Reasoning: the average is that of Chat, Chat Hard.")
    assert tables["transfer"]["section"].tolist() == ["Chat", "Chat Hard", "average"]
    whole = rows.loc[[0, 0, 0, 0]].assign(id=list("abcd"), subset=["chat", "chat-hard", "safety", "reasoning"])
    whole.loc[:, "reward_rejected"] = [0.0, 0.5, 0.0, 2.0]
    answer, _ = evaluate({("m", "en", 0, "en"): whole})
    assert "no rows" not in answer


def test_off_the_shelf_models_alone_get_a_sentence_each(evaluate):
    cells = {("armo", "en"): 4, ("armo", "es"): 2, ("armo", "ko"): 0, ("other", "en"): 1, ("other", "es"): 1}
    frames = {(m, "-", 0, language): scores([True] * k + [False] * (4 - k)) for (m, language), k in cells.items()}
    answer, tables = evaluate(frames)
    armo, other, _ = answer.splitlines()
    assert "armo: 100.0 % in en, 25.0 % on average over 2 other languages (difference -75.0 points" in armo
    assert "other: 25.0 % in en, 25.0 % on average over 1 other language (difference +0.0 points" in other
    assert "4 benchmark items" in other
    assert tables["significance"]["family"].tolist() == ["other", "other"]
