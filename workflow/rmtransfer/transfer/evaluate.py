"""Score files of a benchmark, checked, become its tables and the answer."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from rmtransfer.kit.errors import StudyError
from rmtransfer.study.study import RewardModelId
from rmtransfer.transfer.answer import answer_of
from rmtransfer.transfer.design import Design
from rmtransfer.transfer.evaluation import Evaluation
from rmtransfer.transfer.measures import MEASURES


def evaluate_transfer(
    score_files: Mapping[RewardModelId, Mapping[str, Path]],
    sections: str,
    design: Design,
    outputs: Mapping[str, Path],
    *,
    contaminated: Collection[str] = (),
    ties_half: Collection[str] = (),
    native: str | None = None,
) -> str:
    """Write a benchmark's tables and the answer; return the answer.

    Args:
        score_files: scorer to evaluation language to score file; a scorer may lack languages, but no seed of them.
        sections: name of the section table.
        design: the study's languages and base models.
        outputs: what to write where: every one of ``MEASURES``, as CSV, and ``answer``.
        contaminated: ids of rows that ``transfer_clean`` leaves out.
        ties_half: names of the judges whose ties are half right.
        native: the language that the benchmark was written in, where it is no translation and in that one alone.

    Raises:
        StudyError: a reward is not a finite number, the ids of a file are not those of the others, its rows are in
            another language than the one that it stands for, or a base's models do not all have the same seeds.
    """
    evaluation = Evaluation(load_scores(score_files), sections, design, contaminated, ties_half)
    tables = {name: table_of(name, evaluation) for name in MEASURES}
    for name, table in tables.items():
        table.to_csv(outputs[name], index=False, float_format="%.6f")
    answer = answer_of(evaluation, tables["significance"])
    if native is not None:
        answer += f"\nThe benchmark was written in {native}: none of it is translated."
    outputs["answer"].write_text(answer + "\n", encoding="utf-8")
    return answer


def gather(tables: Mapping[str, Path], output: Path) -> None:
    """Write one table of all benchmarks, with a column ``benchmark`` in front.

    Args:
        tables: benchmark to its own table.
    """
    frames = [pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=str) for path in tables.values()]
    pd.concat(frames, keys=list(tables), names=["benchmark", None]).reset_index(level=0).to_csv(output, index=False)


def table_of(name: str, evaluation: Evaluation) -> pd.DataFrame:
    """One of ``MEASURES``, with the columns that it describes."""
    measure = MEASURES[name]
    return pd.DataFrame(list(measure.rows(evaluation)), columns=list(measure.columns))


def load_scores(
    score_files: Mapping[RewardModelId, Mapping[str, Path]],
) -> dict[tuple[RewardModelId, str], pd.DataFrame]:
    """Score files, checked, by scorer and evaluation language.

    A file with a column ``seed``, of a baseline that is drawn several times, holds as many scorers.

    Raises:
        StudyError: see :func:`evaluate_transfer`.
    """
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
            if "cluster" in rows and rows["cluster"].isna().any():
                first = rows["id"][rows["cluster"].isna()].iloc[0]
                raise StudyError(f"{path}: {first!r} has no cluster, though others have; give every row one, or none")
            rewards = rows[["reward_chosen", "reward_rejected"]].to_numpy(float)
            if not np.isfinite(rewards).all():
                first = rows["id"][~np.isfinite(rewards).all(axis=1)].iloc[0]
                raise StudyError(
                    f"{path}: the rewards of {first!r} are not finite numbers; score again, or drop the model"
                )
            draws = (
                {scorer._replace(seed=seed): these for seed, these in rows.groupby("seed")} if "seed" in rows else {}
            )
            for each, these in (draws or {scorer: rows}).items():
                if ids is None:
                    ids = these["id"].tolist()
                elif these["id"].tolist() != ids:
                    raise StudyError(f"{path}: holds other rows than the other score files; remove it and run again")
                scores[each, language] = these.reset_index(drop=True)
    return scores
