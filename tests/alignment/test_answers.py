"""What is known of answers, and what must not be missing."""

import pandas as pd
import pytest

from rmtransfer.alignment.answers import load_answers, load_rewards
from rmtransfer.kit.errors import StudyError
from rmtransfer.texts.corpus import save_rows

ENGLISH = "The sea looks blue because water absorbs red light."
SPANISH = "El mar se ve azul porque el agua absorbe la luz roja."
KOREAN = "물이 붉은빛을 흡수하기 때문에 바다는 파랗게 보입니다."
CODE = "```python\nprint(sum(values) / len(values))\nreturn values if values else None\n```"


def write(path, texts: dict[tuple[str, int], str]):
    rows = [
        {
            "id": identity,
            "sample": sample,
            "prompt": [{"role": "user", "content": "Why?"}],
            "answer": [{"role": "assistant", "content": text}],
            "finished": sample == 0,
        }
        for (identity, sample), text in texts.items()
    ]
    save_rows(rows, path)
    return path


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", ENGLISH, True),
        ("en", SPANISH, False),
        ("es", SPANISH, True),
        ("es-x-nllb", SPANISH, True),
        ("es", KOREAN, False),
        ("ko", KOREAN, True),
        ("ko", "바다는 파랗게 보인다", True),  # 9 syllables
        ("ko", ENGLISH, False),
        ("ko", "파랗다", None),
        ("en", "Yes, I do.", None),
        ("es", "", None),
        ("es", CODE, None),
        ("es", f"{SPANISH}\n\n{CODE}", True),
        ("tlh", ENGLISH, None),  # py3langid knows no Klingon
    ],
)
def test_the_language_of_an_answer(tmp_path, language, text, expected):
    answers = load_answers(write(tmp_path / "a.parquet", {("i", 0): text}), language, ["en", "es", "ko"])
    assert answers.told.tolist() == [[expected is not None]]
    assert answers.in_language.tolist() == [[expected is True]]


def test_ids_and_samples_say_what_is_whose(tmp_path):
    texts = {("b", 1): "1", ("a", 0): "two", ("b", 0): "three", ("a", 1): "fifty"}
    answers = load_answers(write(tmp_path / "a.parquet", texts), "en", ["en"])
    assert answers.characters.tolist() == [[3, 5], [5, 1]]
    assert answers.finished.tolist() == [[1, 0], [1, 0]]
    rewards = pd.DataFrame(
        [("b", 0, 3.0), ("a", 1, 2.0), ("b", 1, 4.0), ("a", 0, 1.0)], columns=["id", "sample", "reward"]
    )
    rewards.to_parquet(tmp_path / "r.parquet")
    assert load_rewards(tmp_path / "r.parquet", answers).tolist() == [[1, 2], [3, 4]]


def test_a_missing_answer_or_reward_is_named(tmp_path):
    path = write(tmp_path / "a.parquet", {("a", 0): "x", ("a", 1): "x", ("b", 1): "x"})
    with pytest.raises(
        StudyError, match=r"a\.parquet: has no answer for sample 0 of 'b'; delete the file and run again"
    ):
        load_answers(path, "en", ["en"])
    whole = write(tmp_path / "a.parquet", {("a", 0): "x", ("a", 1): "x", ("b", 0): "x", ("b", 1): "x"})
    rewards = pd.DataFrame([("a", 0, 3.0), ("a", 1, 2.0)], columns=["id", "sample", "reward"])
    rewards.to_parquet(tmp_path / "r.parquet")
    with pytest.raises(
        StudyError, match=r"r\.parquet: has no reward for sample 0 of 'b'; delete the file and run again"
    ):
        load_rewards(tmp_path / "r.parquet", load_answers(whole, "en", ["en"]))
