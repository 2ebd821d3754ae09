"""Overlap of benchmark and training prompts against cases worked out by hand."""

import csv

import pytest

from rmtransfer.texts.contamination import COLUMNS, find_contaminated, write_contamination
from rmtransfer.texts.corpus import save_rows

WORDS = [f"w{i}" for i in range(100)]


def kinds(prompts, training, **options):
    return {entry["id"]: (entry["kind"], entry["overlap"]) for entry in find_contaminated(prompts, training, **options)}


@pytest.mark.parametrize(
    "training",
    ["what is the capital of france", "What is the\n\tcapital of  France?!", "«WHAT» is — the capital, of: France…"],
)
def test_exact_whatever_case_punctuation_and_spacing(training):
    assert kinds({"a": "What is the capital of France?", "b": "What is two?"}, [training]) == {"a": ("exact", 1.0)}


def test_exact_whatever_the_width_of_letters():
    assert kinds({"a": "Ｗｈａｔ is １ + １?"}, ["what is 1 + 1"]) == {"a": ("exact", 1.0)}


def test_other_words_or_another_order_are_not_exact():
    assert kinds({"a": "one two three"}, ["two one three", "one two", "one two three four", "one two threes"]) == {}


@pytest.mark.parametrize(
    ("shared", "found"),
    [
        (13, {}),  # 1 of 8
        (15, {}),  # 3 of 8
        (16, {"a": ("ngram", 0.5)}),  # 4 of 8
        (19, {"a": ("ngram", 0.875)}),
    ],
)
def test_ngrams_at_and_below_one_half(shared, found):
    prompt = " ".join(WORDS[:20])  # 20 words have 20 - 13 + 1 = 8 runs of 13
    training = " ".join([*WORDS[:shared], *WORDS[50:60]])
    assert kinds({"a": prompt}, [training]) == found


def test_ngrams_may_come_from_several_prompts():
    # Runs that start at 0 and 1, and at 6 and 7: 4 of 8.
    training = [" ".join(WORDS[:14]) + " x", "x " + " ".join(WORDS[6:20])]
    assert kinds({"a": " ".join(WORDS[:20])}, training) == {"a": ("ngram", 0.5)}
    assert kinds({"a": " ".join(WORDS[:20])}, training[:1]) == {}


def test_ngrams_ignore_case_and_punctuation():
    prompt = " ".join(WORDS[:20])
    assert kinds({"a": prompt}, [", ".join(WORDS[:20]).upper() + " and more"]) == {"a": ("ngram", 1.0)}


def test_the_length_of_a_run_counts():
    assert kinds({"a": "a b c d"}, ["a b c x"], n=3) == {"a": ("ngram", 0.5)}
    assert kinds({"a": "a b c d"}, ["a b c x"], n=4) == {}


def test_a_short_prompt_is_only_looked_for_as_a_whole():
    prompt = " ".join(WORDS[:12])
    assert kinds({"a": prompt}, [f"{prompt} and more"]) == {}
    assert kinds({"a": prompt}, [prompt]) == {"a": ("exact", 1.0)}


def test_chinese_counts_characters():
    prompt = "请用一句话解释为什么天空在晴朗的日子里是蓝色的"
    assert len(prompt) == 23  # 11 runs of 13
    assert kinds({"a": prompt}, [prompt[:17] + "别的话"]) == {}  # 5 of 11
    assert kinds({"a": prompt}, [prompt[:18] + "别的话"]) == {"a": ("ngram", round(6 / 11, 3))}
    assert kinds({"a": prompt}, [f"{prompt[:9]}， {prompt[9:]}。"]) == {"a": ("exact", 1.0)}


@pytest.mark.parametrize(("one", "other"), [("वह कि", "वह की"), ("มา นี้", "มา นั้น"), ("มาก", "มากี่")])
def test_vowel_signs_tell_words_apart(one, other):
    assert kinds({"a": one}, [other]) == {}
    assert kinds({"a": one}, [f"{one}!"]) == {"a": ("exact", 1.0)}


def test_thai_counts_characters_with_their_marks():
    prompt = "กี้" * 14  # 14 characters of 3 code points: 2 runs of 13
    assert kinds({"a": prompt}, [prompt[: 3 * 13] + " ข"]) == {"a": ("ngram", 1.0)}  # both runs are the same
    assert kinds({"a": prompt[: 3 * 12]}, [prompt]) == {}


def test_korean_counts_words():
    assert kinds({"a": "하늘은 왜 파란가요?"}, ["하늘은 왜 파란가요"]) == {"a": ("exact", 1.0)}
    assert kinds({"a": "하늘은 왜 파란가요?"}, ["하늘 은왜 파란가요"]) == {}


def test_without_words_there_is_nothing_to_compare():
    assert kinds({"a": "🙂", "b": "?!", "c": "❤️"}, ["...", "🙃", "☀️"]) == {}


def test_nothing_without_training():
    assert find_contaminated({"a": "one two three"}, []) == []


def row(identity, prompt):
    return {
        "id": identity,
        "subset": "chat",
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": "yes"}],
        "rejected": [{"role": "assistant", "content": "no"}],
    }


def test_the_list_of_a_benchmark(tmp_path):
    benchmark, training, output = tmp_path / "b.parquet", tmp_path / "t.parquet", tmp_path / "out/found.csv"
    save_rows([row("seen", "One two three."), row("new", "Four five six.")], benchmark)
    # Training answers do not count, and there are more rows than are read at once.
    save_rows([row(f"t{i}", f"training {i}") for i in range(2500)] + [row("last", "one, two, three")], training)
    assert write_contamination(benchmark, training, output) == 1
    with output.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [list(COLUMNS), ["seen", "exact", "1.0"]]
    assert write_contamination(benchmark, None, output) == 0
    assert output.read_text(encoding="utf-8").splitlines() == [",".join(COLUMNS)]
