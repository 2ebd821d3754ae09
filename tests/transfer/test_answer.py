"""The answer against values worked out by hand, whichever way it falls."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from conftest import ROOT
from rmtransfer.study.names import SOURCE_AGAINST_TARGETS
from rmtransfer.transfer.answer import SEED_SD, answer_of
from rmtransfer.transfer.evaluate import table_of
from score_rows import evaluate, evaluation_of, grid_of_scores, measured, rows_of, scores


def en_and_es(ours, theirs):
    everything = [True] * len(ours)
    cells = {
        ("m", "en", 0, "en"): everything,
        ("m", "en", 0, "es"): ours,
        ("m", "es", 0, "es"): theirs,
        ("m", "es", 0, "en"): everything,
    }
    return evaluation_of(rows_of(cells))


def source_advantage(evaluation):
    average = evaluation.average
    return average.mean_difference(evaluation.design.comparisons(average.accuracies)[SOURCE_AGAINST_TARGETS])


def test_source_advantage_is_the_paired_difference():
    ours, theirs = np.random.default_rng(0).random((2, 400)) < [[0.8], [0.7]]
    estimate = source_advantage(en_and_es(ours, theirs))
    test = stats.ttest_rel(ours.astype(float), theirs.astype(float))
    assert (estimate.value, estimate.seeds, estimate.n) == (pytest.approx(ours.mean() - theirs.mean()), 1, 400)
    assert estimate.interval() == pytest.approx(tuple(test.confidence_interval(0.95)))


def test_source_advantage_is_the_mean_over_languages_and_bases():
    right, wrong = [True] * 2, [False] * 2
    cells = {("m", train, 0, language): wrong for train in ("en", "es", "ko") for language in ("en", "es", "ko")}
    cells |= {("m", "en", 0, "es"): right}  # es: +1, ko: 0
    cells |= {("k", "en", 0, "ko"): wrong, ("k", "ko", 0, "ko"): right}  # -1
    cells |= {
        ("other", "-", 0, "es"): right,
        ("m", "mix", 0, "es"): right,
        ("m", "mix", 0, "en"): right,
    }  # no part in it
    cells |= {("probe", "en", 0, "es"): right, ("probe", "es", 0, "es"): wrong}
    assert source_advantage(evaluation_of(rows_of(cells))).value == pytest.approx((1 + 0 - 1) / 3)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (True, False, ["100.0 points above", "excludes zero", "1 is (0 of them to its disadvantage)"]),
        (False, True, ["100.0 points below", "excludes zero", "1 is (1 of them to its disadvantage)"]),
        (True, True, ["as accurate as", "includes zero", "none is significant"]),
    ],
)
def test_the_answer_says_which_way_it_falls(ours, theirs, words):
    evaluation = en_and_es([ours] * 20, [theirs] * 20)
    answer = answer_of(evaluation, table_of("significance", evaluation))
    assert all(
        word in answer for word in [*words, "over es", "1 seed and 20 benchmark pairs", "Of 1 difference between"]
    )


def test_one_seed_is_said_to_be_one():
    answers = []
    for seeds in ((0,), (0, 1, 2)):
        evaluation = evaluation_of(grid_of_scores(seeds))
        answers.append(answer_of(evaluation, table_of("significance", evaluation)))
    one, three = answers
    assert "There is one seed: the chance of a training run is not in these intervals" in one
    assert f"by {SEED_SD['probe']:.1f} points (standard deviation) where its score head starts fitted" in one
    assert "(paired permutation tests over items)" in one
    assert "seed:" not in three
    assert three.count("3 seeds and 60 benchmark pairs") == 2
    assert "Of 2 differences between the en reward model and that of the target language" in three
    assert "(t tests over seeds and items)" in three
    assert "On average over 6 comparisons a reward model trained in one other language is" in three


def test_the_size_of_a_seed_is_the_one_that_the_documentation_states():
    text = (ROOT / "docs/recipe.md").read_text(encoding="utf-8")
    of_benchmark = text.partition("<!-- benchmark: begin -->")[2].partition("<!-- benchmark: end -->")[0]
    rows = re.findall(r"\| (\w+) \| x1 \| 17 \|(?: [^|]+ \|){5} ([\d.]+) \|", of_benchmark)
    assert dict(rows) == {head: f"{sd:.1f}" for head, sd in SEED_SD.items()}


def added(frames):
    """What a study may also hold: a mixture, a part, a variant that is trained and evaluated, other models, baselines."""
    generator = np.random.default_rng(1)
    languages = list(dict.fromkeys(language for *_, language in frames))
    more = {}
    for train in ("mix", "it-zh", "en.24", "es-x-nllb", "translate-test"):
        for seed in (0, 1, 2):
            for language in [*languages, "es-x-nllb"]:
                more["m", train, seed, language] = scores(generator.random(60) < 0.9)
    for *scorer, _ in list(frames):
        more[*scorer, "es-x-nllb"] = scores(generator.random(60) < 0.5)
    for name, train in (("armo", "-"), ("length", "-"), ("probe", "en"), ("probe", "es"), ("probe", "ko")):
        for language in languages:
            more[name, train, 0, language] = scores(generator.random(60) < 0.4)
    return more


@pytest.mark.parametrize("place", ["after", "before"])
def test_what_is_added_to_a_study_changes_no_sentence_and_no_test_of_the_primary_family(tmp_path, place):
    frames = grid_of_scores((0, 1, 2))
    more = added(frames)
    (tmp_path / "whole").mkdir()
    answer, tables = evaluate(tmp_path, frames)
    again, with_more = evaluate(tmp_path / "whole", frames | more if place == "after" else more | frames)
    assert again == answer
    keys = ["eval_language", "base_a", "train_a", "base_b", "train_b"]
    alone, beside = (
        t["significance"].query("family == 'primary'").sort_values(keys, ignore_index=True) for t in (tables, with_more)
    )
    assert len(alone) == 2
    pd.testing.assert_frame_equal(beside, alone, check_exact=True)
    plain = beside["train_a"].eq("en") & beside["train_b"].isin(["es", "ko"])
    assert plain.all()
    cells = with_more["seeds"].merge(tables["seeds"][[*SEED_KEYS]], on=SEED_KEYS)
    pd.testing.assert_frame_equal(
        cells.sort_values(SEED_KEYS, ignore_index=True), tables["seeds"].sort_values(SEED_KEYS, ignore_index=True)
    )
    for name in ("variance", "headline"):
        pd.testing.assert_frame_equal(with_more[name], tables[name], check_exact=True)


SEED_KEYS = ["base_model", "train_language", "eval_language", "section"]


def test_without_target_models_each_model_gets_a_sentence(tmp_path):
    frames = {("m", train, 0, e): scores([train == "en"] * 40) for train in ("en", "mix") for e in ("en", "es")}
    frames["m", "mix", 0, "en"].loc[0, "reward_chosen"] = 1.0
    for language in ("en", "es"):
        frames["m", "en", 0, language].loc[0, "reward_chosen"] = 0.0
    answer, _ = evaluate(tmp_path, frames)
    first, second, _ = answer.splitlines()
    assert first.startswith("m trained in en: 97.5 % in en, 97.5 % on average over 1 other language")
    assert second.startswith("m trained in mix: 2.5 % in en, 0.0 % on average over 1 other language")


def test_many_small_differences_are_added_up(tmp_path):
    """Six comparisons, each of two items in ten; on average the own language is 20 points better."""
    right = {True: [True] * 8 + [False] * 2, False: [True] * 6 + [False] * 4}
    frames = {("m", t, 0, e): scores(right[t == e]) for t in ("en", "es", "ko") for e in ("en", "es", "ko")}
    answer, _ = evaluate(tmp_path, frames)
    assert "Of 2 differences between the en reward model and that of the target language, none is significant" in answer
    half = 100 * stats.t.ppf(0.975, 9) * np.std([1] * 2 + [0] * 8, ddof=1) / np.sqrt(10)
    assert (
        "On average over 6 comparisons a reward model trained in one other language is 20.0 points below the in-language "
        f"one (95 % interval {-20 - half:+.1f} to {-20 + half:+.1f}; 1 seed and 10 benchmark pairs)." in answer
    )


def test_sections_without_rows_are_named(tmp_path):
    rows = scores([True, False, True]).assign(subset=["chat", "llmbar-natural", "chat"])
    answer, tables = evaluate(tmp_path, {("m", "en", 0, "en"): rows})
    assert answer.endswith("no rows in Safety, Reasoning: the average is that of Chat, Chat Hard.")
    assert tables["transfer"]["section"].tolist() == ["Chat", "Chat Hard", "average"]
    whole = rows.loc[[0, 0, 0, 0]].assign(id=list("abcd"), subset=["chat", "chat-hard", "safety", "reasoning"])
    whole.loc[:, "reward_rejected"] = [0.0, 0.5, 0.0, 2.0]
    answer, _ = evaluate(tmp_path, {("m", "en", 0, "en"): whole})
    assert "no rows" not in answer


def test_off_the_shelf_models_alone_get_a_sentence_each(tmp_path):
    cells = {("armo", "en"): 4, ("armo", "es"): 2, ("armo", "ko"): 0, ("other", "en"): 1, ("other", "es"): 1}
    frames = {(m, "-", 0, language): scores([True] * k + [False] * (4 - k)) for (m, language), k in cells.items()}
    answer, tables = evaluate(tmp_path, frames)
    armo, other, _ = answer.splitlines()
    assert "armo: 100.0 % in en, 25.0 % on average over 2 other languages (difference -75.0 points" in armo
    assert "other: 25.0 % in en, 25.0 % on average over 1 other language (difference +0.0 points" in other
    assert "1 seed and 4 benchmark pairs" in other
    assert tables["significance"]["family"].tolist() == ["other", "other"]
    assert tables["variance"].empty
    assert tables["headline"].empty


def test_headlines_of_each_base_and_of_all():
    cells = {
        (base, train, 0, language): [True] * (2 + (base == "m")) + [train == language, False]
        for base in ("m", "k")
        for train in ("en", "es")
        for language in ("en", "es")
    }
    cells["k", "en", 0, "es"] = [False] * 4
    table = measured("headline", {key: scores(right[:4]) for key, right in cells.items()})
    found = table.set_index(["comparison", "base_model"])["difference"].to_dict()
    # k: 0 against 2 + 1 of 4 in Spanish, 2 against 3 in English. m has 3 right and the in-language item.
    assert found == pytest.approx(
        {
            ("source minus target-language", "m"): -1 / 4,
            ("source minus target-language", "k"): -3 / 4,
            ("source minus target-language", "all"): -1 / 2,
            ("elsewhere minus in-language", "m"): -1 / 4,
            ("elsewhere minus in-language", "k"): -1 / 2,
            ("elsewhere minus in-language", "all"): -3 / 8,
        }
    )


def test_a_benchmark_that_was_written_in_its_language_says_so(tmp_path):
    frames = rows_of({("m", "es", 0, "es"): [True, False]})
    answer, _ = evaluate(tmp_path, frames, native="es")
    assert answer.splitlines()[-1] == "The benchmark was written in es: none of it is translated."
    assert "written in" not in evaluate(tmp_path, frames)[0]
