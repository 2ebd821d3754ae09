"""What is known of a policy's answers before anyone picks: their language, their end, their length, their rewards."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rmtransfer.kit.errors import StudyError
from rmtransfer.translation.quality import in_language


class Answers(NamedTuple):
    """A policy's answers in one language; arrays [instructions, samples].

    Attributes:
        places: ids and samples of the others' rows and columns.
        told: 1 where the language of an answer can be told, else 0.
        in_language: 1 where it is the instruction's, else 0.
        finished: 1 where an answer ended by itself, else 0.
        characters: Unicode code points.
    """

    places: pd.DataFrame
    told: np.ndarray
    in_language: np.ndarray
    finished: np.ndarray
    characters: np.ndarray


def load_answers(path: Path, language: str, languages: Sequence[str]) -> Answers:
    """Read a file of ``id, sample, prompt, answer, finished``.

    Args:
        language: of the instructions.
        languages: of the study, in which the policy may answer as well.

    Raises:
        StudyError: an instruction has fewer samples than others.
    """
    frame = pd.read_parquet(path, columns=["id", "sample", "answer", "finished"])
    texts = frame["answer"].map(lambda messages: messages[-1]["content"])
    found = texts.map(lambda text: in_language(text, language, languages)).astype(object)
    frame = frame.assign(
        characters=texts.str.len(),
        told=[known is not None for known in found],
        in_language=[known is True for known in found],
    )
    places = _matrix(frame, "characters")
    _check(places, f"{path}: has no answer")
    return Answers(
        places, *(_matrix(frame, name).to_numpy(float) for name in ("told", "in_language", "finished", "characters"))
    )


def load_texts(path: Path) -> pd.DataFrame:
    """Texts [instructions, samples] of answers, from a file of ``id, sample, answer``.

    Raises:
        StudyError: an instruction has fewer samples than others.
    """
    frame = pd.read_parquet(path, columns=["id", "sample", "answer"])
    texts = _matrix(frame.assign(text=frame["answer"].map(lambda messages: messages[-1]["content"])), "text")
    _check(texts, f"{path}: has no answer")
    return texts


def load_rewards(path: Path, answers: Answers | pd.DataFrame) -> np.ndarray:
    """Rewards [instructions, samples] of answers, from a file of ``id, sample, reward``.

    Args:
        answers: or a frame with their ids and samples.

    Raises:
        StudyError: the reward of an answer is missing.
    """
    places = answers.places if isinstance(answers, Answers) else answers
    rewards = _matrix(pd.read_parquet(path), "reward").reindex(index=places.index, columns=places.columns)
    _check(rewards, f"{path}: has no reward")
    return rewards.to_numpy(float)


def _matrix(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    return frame.pivot(index="id", columns="sample", values=column).sort_index()


def _check(matrix: pd.DataFrame, message: str) -> None:
    gaps = np.argwhere(matrix.isna().to_numpy())
    if len(gaps):
        row, column = gaps[0]
        raise StudyError(
            f"{message} for sample {matrix.columns[column]} of {matrix.index[row]!r}; delete the file and run again"
        )
