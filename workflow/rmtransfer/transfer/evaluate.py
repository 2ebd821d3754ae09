"""Score files of a benchmark, checked, become its tables and the answer."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from rmtransfer.kit.errors import StudyError
from rmtransfer.study.study import RewardModelId
from rmtransfer.transfer.answer import answer_of
from rmtransfer.transfer.measures import MEASURES
from rmtransfer.transfer.outcomes import Evaluation, Outcomes
from rmtransfer.transfer.statistics import Resamples


def evaluate_transfer(
    score_files: Mapping[RewardModelId, Mapping[str, Path]],
    sections: str,
    source: str,
    outputs: Mapping[str, Path],
    *,
    contaminated: Collection[str] = (),
) -> str:
    """Write a benchmark's tables and the answer; return the answer.

    Args:
        score_files: scorer to evaluation language to score file; a scorer may lack languages.
        sections: name of the section table.
        source: the study's source language.
        outputs: what to write where: every one of ``MEASURES``, as CSV, and ``answer``.
        contaminated: ids of rows that ``transfer_clean`` leaves out.

    Raises:
        StudyError: a reward is not a finite number, the ids of a file are not those of the others, or its rows are in
            another language than the one that it stands for.
    """
    scores = _load(score_files)
    outcomes = Outcomes(scores, sections)
    resamples = Resamples(outcomes.items["subset"].to_numpy())
    evaluation = Evaluation(scores, outcomes, resamples, source, contaminated)
    tables = {name: table_of(name, evaluation) for name in MEASURES}
    for name, table in tables.items():
        table.to_csv(outputs[name], index=False, float_format="%.6f")
    answer = answer_of(evaluation, tables["significance"])
    outputs["answer"].write_text(answer + "\n", encoding="utf-8")
    return answer


def table_of(name: str, evaluation: Evaluation) -> pd.DataFrame:
    """One of ``MEASURES``, with the columns that it describes."""
    measure = MEASURES[name]
    return pd.DataFrame(list(measure.rows(evaluation)), columns=list(measure.columns))


def _load(score_files: Mapping[RewardModelId, Mapping[str, Path]]) -> dict[tuple[RewardModelId, str], pd.DataFrame]:
    scores: dict[tuple[RewardModelId, str], pd.DataFrame] = {}
    ids: list[str] | None = None
    for scorer, files in score_files.items():
        for language, path in files.items():
            rows = pd.read_parquet(path).astype({"reward_chosen": float, "reward_rejected": float})
            other = set(rows["language"]) - {language}
            if other:
                raise StudyError(
                    f"{path}: holds rows in {', '.join(map(repr, sorted(map(str, other))))}, and stands for {language!r}; "
                    "remove it and run again"
                )
            rewards = rows[["reward_chosen", "reward_rejected"]].to_numpy(float)
            if not np.isfinite(rewards).all():
                first = rows["id"][~np.isfinite(rewards).all(axis=1)].iloc[0]
                raise StudyError(
                    f"{path}: the rewards of {first!r} are not finite numbers; score again, or drop the model"
                )
            if ids is None:
                ids = rows["id"].tolist()
            elif rows["id"].tolist() != ids:
                raise StudyError(f"{path}: holds other rows than the other score files; remove it and run again")
            scores[scorer, language] = rows
    return scores
