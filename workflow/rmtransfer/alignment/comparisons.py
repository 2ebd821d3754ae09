"""Held-out answers of what was aligned or picked, each against the base policy's own answer to the same instruction."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.progress import report
from rmtransfer.texts.corpus import Row, load_rows, same_answers, save_rows, texts_of


def comparisons(
    base_answers: Path, aligned: Mapping[str, Path], selections: Mapping[str, tuple[int, Path]]
) -> list[Row]:
    """Preference-shaped rows of one policy and language: ``chosen`` is the contender's answer, ``rejected`` the base's.

    The base's own answer is its last sample. Best of n is the one of its first n samples with the highest reward, of equal ones
    the first. Rows whose answers are equal or empty are rows all the same.

    Args:
        base_answers: held-out answers of the base policy, ``id, sample, prompt, answer``.
        aligned: contender id to the aligned policy's answers, one to each instruction.
        selections: contender id to n and the file of the selector's rewards of the base's answers, ``id, sample, reward``.

    Returns:
        ``id`` (contender::instruction), ``subset`` (contender), ``cluster`` (instruction), ``prompt, chosen, rejected``; by
        contender in the order given, then by instruction in the order of the base's file.

    Raises:
        StudyError: an answer is missing, or a reward, or n is more than there are samples beside the base's own answer.
    """
    by_id = _by_id(base_answers)
    last = max(sample for samples in by_id.values() for sample in samples)
    for identity, samples in by_id.items():
        if list(samples) != list(range(last + 1)):
            missing = next(sample for sample in range(last + 1) if sample not in samples)
            raise _missing(base_answers, "answer", missing, identity)
    chosen: dict[str, dict[str, Row]] = {}
    for contender, path in aligned.items():
        theirs = _by_id(path)
        for identity in by_id:
            if 0 not in theirs.get(identity, ()):
                raise _missing(path, "answer", 0, identity)
        chosen[contender] = {identity: theirs[identity][0] for identity in by_id}
    for contender, (n, path) in selections.items():
        if n > last:
            raise StudyError(
                f"{contender}: {base_answers} has {last} samples beside the base's own answer; sample more answers, or "
                f"pick from at most {last}"
            )
        picks = _picks(path, list(by_id), n)
        chosen[contender] = {identity: by_id[identity][pick] for identity, pick in zip(by_id, picks, strict=True)}
    return [
        {
            "id": f"{contender}::{identity}",
            "subset": contender,
            "cluster": identity,
            "prompt": samples[last]["prompt"],
            "chosen": chosen[contender][identity]["answer"],
            "rejected": samples[last]["answer"],
        }
        for contender in chosen
        for identity, samples in by_id.items()
    ]


def write_comparisons(
    base_answers: Path, aligned: Mapping[str, Path], selections: Mapping[str, tuple[int, Path]], output: Path
) -> None:
    """Write :func:`comparisons` as Parquet, and say how many compare nothing or nothing much."""
    rows = comparisons(base_answers, aligned, selections)
    alike = sum(map(same_answers, rows))
    empty = sum(any(not text.strip() for text in texts_of(row, ("chosen", "rejected"))) for row in rows)
    report(f"{len(rows):,} comparisons, {alike:,} of equal answers, {empty:,} with an empty answer")
    save_rows(rows, output)


def _by_id(path: Path) -> dict[str, dict[int, Row]]:
    """Rows by instruction and sample, samples in order."""
    found: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in load_rows(path):
        found[row["id"]][row["sample"]] = row
    return {identity: dict(sorted(samples.items())) for identity, samples in found.items()}


def _picks(path: Path, ids: list[str], n: int) -> np.ndarray:
    """The best of the first n samples of each instruction."""
    rewards = pd.read_parquet(path).pivot(index="id", columns="sample", values="reward").reindex(ids, columns=range(n))
    gaps = np.argwhere(rewards.isna().to_numpy())
    if len(gaps):
        row, sample = gaps[0]
        raise _missing(path, "reward", int(sample), ids[row])
    return rewards.to_numpy().argmax(axis=1)  # the first of equal ones


def _missing(path: Path, what: str, sample: int, identity: str) -> StudyError:
    return StudyError(f"{path}: has no {what} for sample {sample} of {identity!r}; delete the file and run again")
