"""How many constraints the answers of policies fulfil, and by how many more than those of another policy."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rmtransfer.alignment.constraints.registry import Constraint, fulfils
from rmtransfer.alignment.constraints.rows import count_left_out, load_saved
from rmtransfer.alignment.constraints.units import cleaned
from rmtransfer.kit.errors import StudyError
from rmtransfer.study.names import ALL, NOT_OURS
from rmtransfer.texts.corpus import Row, load_rows
from rmtransfer.transfer.statistics import LEVEL, wilson

COLUMNS = {
    "writer": "who answers: a policy or an aligned one",
    "language": "language of instructions and answers",
    "measure": "prompt accuracy, share of prompts all of whose constraints are fulfilled; instruction accuracy, share of "
    "constraints that are; strict, by the answer as it is; loose, by any of eight variants of it; gain, prompt accuracy minus "
    "the base policy's on the same prompts",
    "value": "the measure, in shares of 1",
    "ci_low": "lower bound of its 95 % interval over prompts; none for fewer than 8 prompts",
    "ci_high": "upper bound of that interval",
    "items": "prompts, or constraints",
}
KIND_COLUMNS = {
    "writer": COLUMNS["writer"],
    "language": COLUMNS["language"],
    "constraint": "kind of constraint",
    "measure": "strict_instruction_accuracy or loose_instruction_accuracy, among the constraints of this kind",
    "value": COLUMNS["value"],
    "ci_low": COLUMNS["ci_low"],
    "ci_high": COLUMNS["ci_high"],
    "items": "constraints of this kind",
}
TABLE_COLUMNS = ["writer", "language", "constraint", "measure", "value", "ci_low", "ci_high", "items"]
READINGS = ("strict", "loose")
LEAST_ROWS = 8  # for an interval
_FEW = 2  # constraints from which on their spread within prompts says something


def variants(text: str) -> list[str]:
    """The eight readings of an answer of which loose accuracy takes the best (IFEval, section 2.2).

    The answer as it is, without its first line, its last, and both, each with and without asterisks: models introduce their
    answers, take leave, and emphasise.
    """
    text = cleaned(text)
    lines = text.split("\n")
    cut = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [reading for one in cut for reading in (one, one.replace("*", ""))]


def verdicts(text: str, instructions: Sequence[Constraint], language: str) -> tuple[list[bool], list[bool]]:
    """Whether an answer fulfils each constraint, strictly and loosely."""
    readings = variants(text)
    loose = [any(fulfils(reading, instruction, language) for reading in readings) for instruction in instructions]
    return [fulfils(text, instruction, language) for instruction in instructions], loose


def check_answers(
    rows_by_language: Mapping[str, Sequence[Row]], answers: Mapping[str, Mapping[str, Path]]
) -> pd.DataFrame:
    """The verdict on every constraint of every answer.

    Args:
        rows_by_language: of :func:`~.rows.load_constraints`.
        answers: writer to language to a Parquet file of ``id, sample, prompt, answer, finished``, one sample each.

    Returns:
        ``writer, language, id, constraint, strict, loose``, one row per constraint, in the order of the rows.

    Raises:
        StudyError: an answer is missing, is to another prompt, or is one of several.
    """
    found = []
    for writer, files in answers.items():
        for language, path in files.items():
            given = _answers(path, rows_by_language[language])
            for row in rows_by_language[language]:
                outcome = verdicts(given[row["id"]], row["instructions"], language)
                for instruction, strict, loose in zip(row["instructions"], *outcome, strict=True):
                    found.append((writer, language, row["id"], instruction.id, strict, loose))
    return pd.DataFrame(found, columns=["writer", "language", "id", "constraint", *READINGS])


def _answers(path: Path, rows: Sequence[Row]) -> dict[str, str]:
    given: dict[str, Row] = {}
    for answer in load_rows(path):
        if answer["id"] in given:
            raise StudyError(f"{path}: has several answers to {answer['id']!r}; constraints are checked on one sample")
        given[answer["id"]] = answer
    for row in rows:
        if row["id"] not in given:
            raise StudyError(f"{path}: has no answer to {row['id']!r}; delete the file and run again")
        if given[row["id"]]["prompt"][-1] != row["prompt"][-1]:
            raise StudyError(
                f"{path}: the answer to {row['id']!r} is to another prompt than the constraints' file has; delete the file "
                "and run again"
            )
    return {identity: answer["answer"][-1]["content"] for identity, answer in given.items()}


def accuracies(checked: pd.DataFrame, base: str | None = None) -> pd.DataFrame:
    """Accuracies of each writer and language, and the gain over one writer; see ``COLUMNS``.

    Args:
        checked: of :func:`check_answers`.
        base: the writer that the others' gains are over; without one, or where it did not answer in a language, there are no
            gains.
    """
    found = []
    prompts = {key: _by_prompt(part) for key, part in checked.groupby(["writer", "language"], sort=False)}
    for (writer, language), part in checked.groupby(["writer", "language"], sort=False):
        mine, theirs = prompts[writer, language], prompts.get((base, language))
        for reading in READINGS:
            found.append((writer, language, f"{reading}_prompt_accuracy", *_share(mine[reading], mine.index)))
            found.append((writer, language, f"{reading}_instruction_accuracy", *_share(part[reading], part["id"])))
            if theirs is not None and writer != base:
                gained = mine[reading].astype(int) - theirs[reading].reindex(mine.index).astype(int)
                found.append((writer, language, f"{reading}_prompt_gain", *_mean_change(gained.to_numpy())))
    return pd.DataFrame(found, columns=list(COLUMNS))


def accuracies_by_kind(checked: pd.DataFrame) -> pd.DataFrame:
    """Instruction accuracies for each kind of constraint; see ``KIND_COLUMNS``."""
    found = []
    for key, part in checked.groupby(["writer", "language", "constraint"], sort=False):
        for reading in READINGS:
            found.append((*key, f"{reading}_instruction_accuracy", *_share(part[reading], part["id"])))
    return pd.DataFrame(found, columns=list(KIND_COLUMNS))


def evaluate_constraints(
    rows_by_language: Mapping[str, Sequence[Row]], answers: Mapping[str, Mapping[str, Path]], base: str | None = None
) -> pd.DataFrame:
    """:func:`accuracies` of what :func:`check_answers` finds."""
    return accuracies(check_answers(rows_by_language, answers), base)


def _by_prompt(part: pd.DataFrame) -> pd.DataFrame:
    return part.groupby("id", sort=False)[list(READINGS)].all()


def _share(fulfilled: pd.Series, ids: Sequence[str] | pd.Series | pd.Index) -> tuple[float, float, float, int]:
    """(share, its bounds, items)."""
    values = fulfilled.to_numpy(float)
    return float(values.mean()), *share_interval(values, pd.factorize(np.asarray(ids))[0]), len(values)


def _mean_change(gained: np.ndarray) -> tuple[float, float, float, int]:
    n = len(gained)
    bounds = paired_interval(int((gained > 0).sum()), int((gained < 0).sum()), n) if n >= LEAST_ROWS else _NONE
    return float(gained.mean()), *bounds, n


_NONE = (float("nan"), float("nan"))


def share_interval(values: np.ndarray, clusters: np.ndarray) -> tuple[float, float]:
    """Wilson's 95 % interval for a share of items that come in clusters, at their effective number.

    That is p (1 - p) divided by the variance of the share between clusters, C / (C - 1) times the sum over clusters of
    (sum of z_i - p)^2 / N^2 (Cochran, Sampling Techniques, 1977, section 11), and at most N; within two items of 0 or 1,
    where there is nothing to estimate a variance by, also at most C. For clusters of one it is Wilson's own. NaN for fewer
    than eight clusters.

    Args:
        values: [N] of 0 and 1.
        clusters: [N], counted from 0.
    """
    n, c = len(values), int(clusters.max()) + 1
    if c < LEAST_ROWS:
        return _NONE
    share = float(values.mean())
    effective = float(n)
    if c < n:
        variance = c / (c - 1) * float((np.bincount(clusters, values - share) ** 2).sum()) / n**2
        if variance > 0:
            effective = min(effective, share * (1 - share) / variance)
        if min(values.sum(), n - values.sum()) < _FEW:
            effective = min(effective, c)
    return wilson(share, effective)


def paired_interval(better: int, worse: int, n: int) -> tuple[float, float]:
    """Tango's 95 % score interval for the difference of two shares of the same n items (Statistics in Medicine 17, 1998).

    The differences d that (better - worse - n d) / sqrt(n (2 q + d (1 - d))) leaves within the normal quantile, where q is
    the likeliest share of the worse given d. Unlike a bootstrap's it has a width where no item differs.

    Args:
        better: items that the first alone fulfils.
        worse: items that the second alone fulfils.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    quantile = float(ndtri((1 + LEVEL) / 2))

    def score(d: float) -> float:
        b = (2 * n - better + worse) * d - better - worse
        q = (np.sqrt(b**2 + 8 * n * worse * d * (1 - d)) - b) / (4 * n)
        return float((better - worse - n * d) / np.sqrt(n * (2 * q + d * (1 - d))))

    low, high = -1 + 1e-9, 1 - 1e-9
    return (
        brentq(lambda d: score(d) - quantile, low, high) if score(low) > quantile else -1.0,
        brentq(lambda d: score(d) + quantile, low, high) if score(high) < -quantile else 1.0,
    )


def write_constraints(
    rows: Mapping[str, Path],
    left_out: Sequence[Path],
    answers: Mapping[str, Mapping[str, Path]],
    output: Path,
) -> None:
    """Write ``tables/constraints.csv`` with ``TABLE_COLUMNS``: accuracies and gains, those of each kind, and what was left out.

    Args:
        rows: language to Parquet file, see :func:`~.rows.save_constraints`.
        left_out: CSV files of rows left out.
        answers: writer to language to answers; what is aligned is called after its policy, ``<policy>/...``.
    """
    saved = {language: load_saved(path) for language, path in rows.items()}
    parts = []
    for policy in [writer for writer in answers if "/" not in writer]:
        of_policy = {writer: files for writer, files in answers.items() if writer.partition("/")[0] == policy}
        checked = check_answers(saved, of_policy)
        parts += [accuracies(checked, policy).assign(constraint=ALL), accuracies_by_kind(checked)]
    counts = count_left_out(pd.concat([pd.read_csv(path) for path in left_out]))
    parts.append(
        counts.rename(columns={"reason": "constraint", "rows": "value"}).assign(writer=NOT_OURS, measure="left_out")
    )
    table = pd.concat([part for part in parts if len(part)]).reindex(columns=TABLE_COLUMNS)
    table.astype({"items": "Int64"}).to_csv(output, index=False, float_format="%.6f")
