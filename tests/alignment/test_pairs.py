"""Which of its answers a policy is aligned on."""

import pandas as pd
import pytest

from rmtransfer.alignment.pairs import choices
from rmtransfer.kit.errors import StudyError
from rmtransfer.texts.corpus import save_rows


def write(folder, answers: dict[str, list[tuple[str, float]]], unfinished=()):
    """Files of answers with their rewards, by instruction."""
    rows = [
        {
            "id": identity,
            "sample": sample,
            "prompt": [{"role": "user", "content": f"{identity}?"}],
            "answer": [{"role": "assistant", "content": text}],
            "finished": text not in unfinished,
        }
        for identity, these in answers.items()
        for sample, (text, _) in enumerate(these)
    ]
    save_rows(rows, folder / "answers.parquet")
    rewards = [(identity, s, reward) for identity, these in answers.items() for s, (_, reward) in enumerate(these)]
    pd.DataFrame(rewards, columns=["id", "sample", "reward"]).to_parquet(folder / "rewards.parquet")
    return folder / "answers.parquet", folder / "rewards.parquet"


def found(folder, these, unfinished=()):
    pairs, counts = choices(*write(folder, {"a": these}, unfinished), "en")
    texts = [(c.chosen[0]["content"], c.rejected[0]["content"], c.finished) for c in pairs]
    return texts, {name: number for name, number in counts.items() if number}


CASES = {
    "best and worst": ([("x", 1.0), ("y", 3.0), ("z", -1.0)], [("y", "z")], "pairs"),
    "equal ones: the first": ([("x", 2.0), ("y", 2.0), ("z", 0.0), ("w", 0.0)], [("x", "z")], "pairs"),
    "copies are one answer": ([("x", 1.0), ("x ", 5.0), ("y", 0.0)], [("x", "y")], "pairs"),
    "all alike": ([("x", 1.0), ("x", 2.0)], [], "alike"),
    "equal rewards": ([("x", 1.0), ("y", 1.0)], [], "equal_rewards"),
    "an empty answer is never chosen": ([("", 9.0), ("x", 2.0), ("y", 1.0)], [("x", "y")], "pairs"),
    "an empty answer may be the worst": ([("", -9.0), ("x", 2.0), ("y", 1.0)], [("x", "")], "pairs"),
    "nothing but one that is worse than nothing": ([("", 9.0), ("x", 2.0)], [], "empty"),
    "all empty": ([("", 1.0), (" ", 2.0)], [], "alike"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_becomes_of_an_instruction(tmp_path, case):
    answers, expected, reason = CASES[case]
    pairs, counts = found(tmp_path, answers)
    assert [(chosen, rejected) for chosen, rejected, _ in pairs] == expected
    assert counts == {reason: 1}


def test_whether_an_answer_ended_goes_with_it(tmp_path):
    pairs, _ = found(tmp_path, [("x", 1.0), ("y", 3.0)], unfinished=("y",))
    assert pairs == [("y", "x", (False, True))]


def test_a_missing_reward_is_named(tmp_path):
    answers, rewards = write(tmp_path, {"a": [("x", 1.0), ("y", 2.0)]})
    pd.read_parquet(rewards).iloc[:1].to_parquet(rewards)
    with pytest.raises(StudyError, match=r"rewards\.parquet: has no reward for sample 1 of 'a'; delete the file"):
        choices(answers, rewards, "en")


def test_a_missing_answer_is_named(tmp_path):
    answers, rewards = write(tmp_path, {"a": [("x", 1.0), ("y", 2.0)]})
    pd.read_parquet(answers).iloc[:1].to_parquet(answers)
    with pytest.raises(StudyError, match=r"answers\.parquet: has no answer for sample 1 of 'a'; delete the file"):
        choices(answers, rewards, "en")


def test_instructions_keep_their_order(tmp_path):
    """Which decides the order of training, whatever merges do to it."""
    answers, rewards = write(tmp_path, {name: [("x", 1.0), ("y", 2.0)] for name in ("b", "a", "c")})
    assert [choice.id for choice in choices(answers, rewards, "en")[0]] == ["b", "a", "c"]
