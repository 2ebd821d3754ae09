"""What a policy is aligned on: the best and the worst of its answers to each instruction, as a reward model ranks them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rmtransfer.kit.errors import StudyError
from rmtransfer.texts.corpus import Message

# What becomes of an instruction.
_PLACE = ["id", "sample"]
COUNTS = ("pairs", "alike", "empty", "equal_rewards")


class Choice(NamedTuple):
    """An instruction with two of a policy's answers.

    Attributes:
        chosen: the answer with the highest reward, of equal ones the first; never an empty one.
        rejected: the one with the lowest.
        finished: whether chosen and rejected ended by themselves.
    """

    id: str
    language: str
    prompt: Sequence[Message]
    chosen: Sequence[Message]
    rejected: Sequence[Message]
    finished: tuple[bool, bool]


def choices(answers: Path, rewards: Path, language: str) -> tuple[list[Choice], dict[str, int]]:
    """The choices of one language, and how many instructions became ``pairs`` or why not.

    Copies of an answer are one answer. An instruction is left out whose answers are all ``alike``, or all ``empty`` but for one
    that is worse than nothing, or all have ``equal_rewards``: there is nothing to prefer.

    Args:
        answers: Parquet file of ``id, sample, prompt, answer, finished``.
        rewards: Parquet file of ``id, sample, reward``.

    Raises:
        StudyError: an answer has no reward, or a reward no answer.
    """
    given, rated = pd.read_parquet(answers), pd.read_parquet(rewards).dropna()
    _check(given, rated, f"{rewards}: has no reward")
    _check(rated, given, f"{answers}: has no answer")
    frame = given.merge(rated, on=_PLACE, how="left")
    frame["text"] = frame["answer"].map(lambda messages: messages[-1]["content"].strip())
    found, counts = [], Counter(dict.fromkeys(COUNTS, 0))
    for identity, these in frame.sort_values("sample", kind="stable").groupby("id", sort=False):
        distinct = these.drop_duplicates("text")
        full = distinct[distinct["text"] != ""]
        if len(distinct) < 2:
            counts["alike"] += 1
            continue
        best, worst = full.loc[full["reward"].idxmax()], distinct.loc[distinct["reward"].idxmin()]
        if best["reward"] <= worst["reward"]:
            counts["equal_rewards" if distinct["reward"].nunique() == 1 else "empty"] += 1
            continue
        counts["pairs"] += 1
        found.append(
            Choice(
                str(identity),
                language,
                _messages(best["prompt"]),
                _messages(best["answer"]),
                _messages(worst["answer"]),
                (bool(best["finished"]), bool(worst["finished"])),
            )
        )
    return found, dict(counts)


def _check(places: pd.DataFrame, within: pd.DataFrame, lacking: str) -> None:
    found = places[_PLACE].merge(within[_PLACE], how="left", indicator=True)
    for row in found[found["_merge"] == "left_only"].itertuples():
        raise StudyError(f"{lacking} for sample {row.sample} of {row.id!r}; delete the file and run again")


def _messages(stored: Sequence[Message]) -> list[Message]:
    return [dict(message) for message in stored]
