"""Contenders' answers against the base policy's own."""

import pandas as pd
import pytest

from rmtransfer.alignment.comparisons import comparisons, write_comparisons
from rmtransfer.kit.errors import StudyError
from rmtransfer.study.aligning import Contender
from rmtransfer.study.study import RewardModelId
from rmtransfer.texts.corpus import load_rows, save_rows

IDS = ["b", "a"]


def written(path, answers):
    """A file of answers: instruction to the texts of its samples."""
    rows = [
        {
            "id": identity,
            "sample": sample,
            "prompt": [{"role": "user", "content": f"Why {identity}?"}],
            "answer": [{"role": "assistant", "content": text}],
            "finished": True,
        }
        for identity, texts in answers.items()
        for sample, text in enumerate(texts)
    ]
    save_rows(rows, path)
    return path


def rewarded(path, rewards):
    lines = [(identity, j, reward) for identity, these in rewards.items() for j, reward in enumerate(these)]
    pd.DataFrame(lines[::-1], columns=["id", "sample", "reward"]).to_parquet(path)
    return path


@pytest.fixture
def base(tmp_path):
    # The base's own answers are b3 and a3.
    return written(tmp_path / "base.parquet", {"b": ["b0", "b1", "b2", "b3"], "a": ["a0", "a1", "a3", "a3"]})


def texts(rows, side):
    return {row["id"]: row[side][0]["content"] for row in rows}


def test_rows_by_hand(tmp_path, base):
    dpo = written(tmp_path / "dpo.parquet", {"a": ["a9"], "b": [""]})
    # The highest reward of all is the base's own answer's, which nobody picks; of equal ones the first counts.
    rewards = rewarded(tmp_path / "r.parquet", {"b": [1.0, 2.0, 2.0, 9.0], "a": [0.0, -1.0, 5.0, 9.0]})
    found = comparisons(
        base,
        {"dpo/m/en/seed0": dpo},
        {
            "best-of-1/m/en/seed0": (1, rewards),
            "best-of-2/m/en/seed0": (2, rewards),
            "best-of-3/m/en/seed0": (3, rewards),
        },
    )
    assert [row["id"] for row in found[:3]] == ["dpo/m/en/seed0::b", "dpo/m/en/seed0::a", "best-of-1/m/en/seed0::b"]
    assert set(texts(found, "rejected").values()) == {"b3", "a3"}
    assert texts(found, "chosen") == {
        **{"dpo/m/en/seed0::b": "", "dpo/m/en/seed0::a": "a9"},
        **{"best-of-1/m/en/seed0::b": "b0", "best-of-1/m/en/seed0::a": "a0"},
        **{"best-of-2/m/en/seed0::b": "b1", "best-of-2/m/en/seed0::a": "a0"},
        **{"best-of-3/m/en/seed0::b": "b1", "best-of-3/m/en/seed0::a": "a3"},
    }
    row = found[1]
    assert (row["subset"], row["cluster"]) == ("dpo/m/en/seed0", "a")
    assert row["prompt"] == [{"role": "user", "content": "Why a?"}]


def test_equal_and_empty_answers_are_rows_and_counted(tmp_path, base, capsys):
    same = written(tmp_path / "same.parquet", {"b": ["b3 "], "a": [" "]})
    write_comparisons(base, {"sft/m/en/seed0": same}, {}, tmp_path / "c.parquet")
    assert "2 comparisons, 1 of equal answers, 1 with an empty answer" in "".join(capsys.readouterr())
    assert texts(load_rows(tmp_path / "c.parquet"), "chosen") == {"sft/m/en/seed0::b": "b3 ", "sft/m/en/seed0::a": " "}


def test_a_contender_changes_no_row_of_the_others(tmp_path, base):
    rewards = rewarded(tmp_path / "r.parquet", {"b": [1.0, 2.0, 2.0], "a": [0.0, -1.0, 5.0]})
    dpo = written(tmp_path / "dpo.parquet", {"a": ["a9"], "b": ["b9"]})
    alone = comparisons(base, {}, {"best-of-2/m/en/seed0": (2, rewards)})
    both = comparisons(base, {"dpo/m/en/seed0": dpo}, {"best-of-2/m/en/seed0": (2, rewards)})
    assert [row for row in both if row["subset"] != "dpo/m/en/seed0"] == alone


def test_what_is_missing_is_named(tmp_path, base):
    short = written(tmp_path / "short.parquet", {"b": ["x"]})
    with pytest.raises(StudyError, match=r"short\.parquet: has no answer for sample 0 of 'a'; delete the file"):
        comparisons(base, {"dpo/m/en/seed0": short}, {})
    rewards = rewarded(tmp_path / "r.parquet", {"b": [1.0, 2.0], "a": [0.0]})
    with pytest.raises(StudyError, match=r"r\.parquet: has no reward for sample 1 of 'a'"):
        comparisons(base, {}, {"best-of-2/m/en/seed0": (2, rewards)})
    with pytest.raises(StudyError, match=r"has 3 samples beside the base's own answer; .* at most 3"):
        comparisons(base, {}, {"best-of-4/m/en/seed0": (4, rewards)})
    uneven = written(tmp_path / "uneven.parquet", {"b": ["x", "y"], "a": ["x"]})
    with pytest.raises(StudyError, match=r"uneven\.parquet: has no answer for sample 1 of 'a'"):
        comparisons(uneven, {"dpo/m/en/seed0": short}, {})


@pytest.mark.parametrize(
    ("identity", "expected", "columns"),
    [
        (
            "dpo/gemma/in-language/seed1",
            ("dpo", None, RewardModelId("gemma", "in-language", 1)),
            {"method": "dpo", "n": None, "selector_base": "gemma", "selector": "in-language"},
        ),
        (
            "best-of-16/longer-answer",
            ("best-of-n", 16, RewardModelId("longer-answer")),
            {"method": "best-of-n", "n": 16, "selector_base": "-", "selector": "longer-answer"},
        ),
    ],
)
def test_a_contender_by_its_id(identity, expected, columns):
    contender = Contender.parse(identity)
    assert contender == expected
    assert contender.columns == columns
