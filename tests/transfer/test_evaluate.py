"""Score files become every table; what is wrong with a file is named."""

import math

import numpy as np
import pandas as pd
import pytest

from rmtransfer.kit.errors import StudyError
from rmtransfer.study.names import MODEL_COLUMNS
from rmtransfer.study.study import RewardModelId
from rmtransfer.transfer.evaluate import evaluate_transfer, gather
from score_rows import DESIGN, evaluate, grid_of_scores, scores, study


def test_every_table_of_a_study(tmp_path):
    answer, tables = evaluate(tmp_path, study())
    assert "The en reward model is" in answer
    assert "on average over es (" in answer  # no model was trained in Korean

    accuracy = tables["transfer"].set_index([*MODEL_COLUMNS, "eval_language", "section"])["accuracy"].sort_index()
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
    # The source's model against the Spanish one is the primary family; the mixture holds both languages.
    assert inside[["eval_language", "train_b"]].value_counts().to_dict() == {("en", "en"): 1}
    assert significance["family"].value_counts().to_dict() == {"other": 13, "in-language": 1, "primary": 1}
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


def test_the_same_files_give_the_same_tables(tmp_path):
    frames = {key: frame for key, frame in study().items() if key[3] == "es"}
    first, again = evaluate(tmp_path, frames), evaluate(tmp_path, frames)
    assert first[0] == again[0]
    for name in first[1]:
        pd.testing.assert_frame_equal(first[1][name], again[1][name])


def test_clean_table_leaves_out_contaminated_rows(tmp_path):
    frames = {("m", "en", 0, language): scores([True, False, False, True]) for language in ("en", "es")}
    _, tables = evaluate(tmp_path, frames, contaminated=["r1", "no-row-of-ours"])
    assert tables["transfer"]["accuracy"].tolist() == [0.5] * 4
    assert tables["transfer_clean"]["accuracy"].tolist() == pytest.approx([2 / 3] * 4, abs=1e-6)
    assert tables["transfer_clean"]["n"].tolist() == [3] * 4
    _, tables = evaluate(tmp_path, frames, contaminated=["r0", "r1", "r2", "r3"])
    assert tables["transfer_clean"].empty
    assert list(tables["transfer_clean"].columns) == list(tables["transfer"].columns)


def rewardbench2(best):
    """Two best-of-4 items, the second with the given reward of its chosen answer, and two Ties items."""
    rows = [(f"7/0/{j}", "Math", 1.0, 0.0) for j in range(3)]
    rows += [(f"8/0/{j}", "Math", best, float(j)) for j in range(3)]
    for item, chosen in ((0, 3.0), (1, 0.0)):
        rows += [(f"ref:{item}/0/0", "Ties", chosen, 1.0)]
        rows += [(f"tied:{item}/{i}/0", "Ties", chosen, 1.0) for i in range(2)]
    frame = pd.DataFrame(rows, columns=["id", "subset", "reward_chosen", "reward_rejected"])
    return frame.assign(language="en", tokens_chosen=2, tokens_rejected=1)


def test_rewardbench2_counts_items_and_drops_whole_ones(tmp_path):
    frames = {("m", "en", 0, "en"): rewardbench2(2.0), ("m", "en", 0, "es"): rewardbench2(1.0)}
    _, tables = evaluate(tmp_path, frames, "rewardbench2", contaminated=["8/0/1", "tied:1/0/0"])
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


def test_ties_beyond_one_are_within_their_interval(tmp_path):
    ties = rewardbench2(2.0).query("subset == 'Ties'")
    first = ties["id"].str.endswith("/0/0")
    # Gaps of 99 and more beside a spread of 1: the last term is 0.01 tanh(98), which rounds to 0.01.
    frames = {("m", "en", 0, "en"): ties.assign(reward_chosen=np.where(first, 100.0, 101.0))}
    _, tables = evaluate(tmp_path, frames, "rewardbench2")
    line = tables["transfer"].iloc[0]
    assert line["accuracy"] == pytest.approx(1.01)
    assert line["ci_low"] < 1
    assert line["ci_high"] >= line["accuracy"]


def two(second):
    return {("m", "en", 0, "en"): scores([True, False]), ("m", "en", 0, "es"): second}


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), None])
def test_a_reward_that_is_no_number_is_named(tmp_path, reward):
    with pytest.raises(StudyError, match=r"scores1\.parquet: the rewards of 'r1' are not finite"):
        evaluate(tmp_path, two(scores([True, False]).assign(reward_rejected=[0.5, reward])))


def test_a_judge_that_tells_nothing_apart_is_wrong_about_everything(tmp_path):
    """A judge that follows the order of the answers gives all of them the same reward: a result, no error."""
    frames = {("judge", "-", 0, language): scores([True] * 4).assign(reward_chosen=0.5) for language in ("en", "es")}
    frames |= {("m", "en", 0, language): scores([True, True, True, False]) for language in ("en", "es")}
    _, tables = evaluate(tmp_path, frames)
    line = tables["transfer"].set_index(["base_model", "eval_language", "section"]).loc[("judge", "es", "average")]
    assert (line["accuracy"], line["ci_low"]) == (0, 0)
    assert tables["calibration"].query("base_model == 'judge'")["ties"].tolist() == [4, 4]
    assert tables["consistency"].query("base_model == 'judge'")["kappa"].isna().all()


def test_other_rows_than_the_others_are_named(tmp_path):
    for ids in (["r0", "x"], ["r1", "r0"]):
        with pytest.raises(StudyError, match=r"scores1\.parquet: holds other rows"):
            evaluate(tmp_path, two(scores([True, False]).assign(id=ids)))
    with pytest.raises(StudyError, match=r"scores1\.parquet: holds other rows"):
        evaluate(tmp_path, two(scores([True])))


def test_rows_in_another_language_than_the_file_stands_for_are_named(tmp_path):
    en, es = tmp_path / "en.parquet", tmp_path / "es.parquet"
    scores([True, False]).to_parquet(en)
    for languages in ("ko", ["es", "ko"]):
        scores([True, False], language=languages).to_parquet(es)
        with pytest.raises(StudyError, match=r"es\.parquet: holds rows in 'ko', and stands for 'es'; remove it"):
            evaluate_transfer({RewardModelId("m", "en"): {"en": en, "es": es}}, "rewardbench", DESIGN, {})


def test_a_seed_that_is_not_there_for_all_is_named(tmp_path):
    frames = grid_of_scores((0, 1))
    del frames["m", "ko", 1, "es"]
    with pytest.raises(
        StudyError, match=r"m: its model trained in ko is scored in es with seeds \[0\] and another with"
    ):
        evaluate(tmp_path, frames)


def test_a_row_without_cluster_is_named(tmp_path):
    with pytest.raises(
        StudyError, match=r"scores1\.parquet: 'r1' has no cluster, though others have; give every row one"
    ):
        evaluate(tmp_path, two(scores([True, False]).assign(cluster=["a", None])))


def test_tables_of_benchmarks_become_one(tmp_path):
    for name, line in (("one", "m,seed,2,0.5"), ("two", "m,seed,4,")):
        (tmp_path / f"{name}.csv").write_text(f"base_model,component,df,share\n{line}\n")
    gather({name: tmp_path / f"{name}.csv" for name in ("one", "two")}, tmp_path / "all.csv")
    assert (tmp_path / "all.csv").read_text().splitlines() == [
        "benchmark,base_model,component,df,share",
        "one,m,seed,2,0.5",
        "two,m,seed,4,",
    ]
