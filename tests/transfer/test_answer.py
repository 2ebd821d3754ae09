"""The answer against values worked out by hand, whichever way it falls."""

import math

import numpy as np
import pytest

from rmtransfer.transfer.answer import answer_of, source_advantage
from rmtransfer.transfer.evaluate import table_of
from score_rows import evaluate, evaluation_of, rows_of, scores


def en_and_es(ours, theirs):
    everything = [True] * len(ours)
    cells = {
        ("m", "en", 0, "en"): everything,
        ("m", "en", 0, "es"): ours,
        ("m", "es", 0, "es"): theirs,
        ("m", "es", 0, "en"): everything,
    }
    return evaluation_of(rows_of(cells))


def advantage(evaluation):
    return source_advantage(evaluation.outcomes, "en", evaluation.resamples)


def test_source_advantage_is_the_paired_difference():
    evaluation = en_and_es([True, True, True, False], [True, False, True, True])
    difference, low, high, n = advantage(evaluation)
    assert (difference, n) == (0.0, 4)
    assert low < 0 < high


def test_source_advantage_interval_matches_the_normal_one():
    generator = np.random.default_rng(0)
    ours, theirs = generator.random(400) < 0.8, generator.random(400) < 0.7
    d = ours.astype(float) - theirs
    evaluation = en_and_es(ours, theirs)
    difference, low, high, _ = advantage(evaluation)
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
    assert advantage(evaluation_of(rows_of(cells)))[0] == pytest.approx((1 + 0 + 0 - 1) / 4)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (True, False, ["100.0 points above", "excludes zero", "1 is (0 of them to the disadvantage"]),
        (False, True, ["100.0 points below", "excludes zero", "1 is (1 of them to the disadvantage"]),
        (True, True, ["as accurate as", "includes zero", "none is significant"]),
    ],
)
def test_the_answer_says_which_way_it_falls(ours, theirs, words):
    evaluation = en_and_es([ours] * 20, [theirs] * 20)
    sentence = answer_of(evaluation, table_of("significance", evaluation))
    assert all(word in sentence for word in [*words, "over es", "20 benchmark pairs", "Of 2 differences"])


def test_without_target_models_the_comparison_to_the_in_language_one_is_still_told(tmp_path):
    frames = {("m", train, 0, e): scores([train == "en"] * 40) for train in ("en", "mix") for e in ("en", "es")}
    frames["m", "mix", 0, "en"].loc[0, "reward_chosen"] = 1.0
    frames["m", "mix", 0, "es"].loc[0, "reward_chosen"] = 1.0
    for language in ("en", "es"):
        frames["m", "en", 0, language].loc[0, "reward_chosen"] = 0.0
    answer, _ = evaluate(tmp_path, frames)
    first, second, last, _ = answer.splitlines()
    assert first.startswith("m trained in en (seed 0): 97.5 % in en")
    assert second.startswith("m trained in mix (seed 0): 2.5 % in en")
    assert last.startswith("Of 1 difference to the in-language reward model, 1 is (1 of them to the disadvantage")


def test_many_small_differences_are_added_up(tmp_path):
    """Six comparisons, each of two items in ten, none significant; on average the own language is 20 points better."""
    right = {True: [True] * 8 + [False] * 2, False: [True] * 6 + [False] * 4}
    frames = {("m", t, 0, e): scores(right[t == e]) for t in ("en", "es", "ko") for e in ("en", "es", "ko")}
    answer, _ = evaluate(tmp_path, frames)
    assert "Of 6 differences to the in-language reward model, none is significant" in answer
    assert (
        "On average the model from elsewhere is 20.0 points below the in-language one (95 % interval -50.0 to" in answer
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
    assert "4 benchmark items" in other
    assert tables["significance"]["family"].tolist() == ["other", "other"]
