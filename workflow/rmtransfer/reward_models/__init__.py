"""Reward models of others, and baselines, through the same tables as our own.

One process and one model load per reward model and benchmark; a finished language rests in a store, keyed by everything
that decides its scores, so that a new language costs one language.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rmtransfer import versions
from rmtransfer.corpus import Row
from rmtransfer.device import pick_device
from rmtransfer.errors import StudyError
from rmtransfer.manifest import digest_of
from rmtransfer.reward_models.baselines import Length, Likelihood, Random
from rmtransfer.reward_models.classifier import Classifier
from rmtransfer.reward_models.implicit import Implicit
from rmtransfer.reward_models.judge import Judge
from rmtransfer.reward_models.model import Scorer, Scores
from rmtransfer.scoring import publish, write_once

_COUNTS = b"counts"


def score_reward_model(
    spec: Mapping[str, Any],
    slug: str,
    rows: Mapping[str, Sequence[Row]],
    scores: Mapping[str, Path],
    settings: Path,
    store: Path,
    *,
    tokens_per_batch: int,
    requests_at_once: int,
    device: str = "auto",
) -> None:
    """Score preference pairs, language by language, as :func:`rmtransfer.scoring.score_pairs` does.

    Args:
        spec: the config entry; ``chat_template`` holds Jinja text here.
        slug: the entry's name, for messages.
        rows: language to pairs.
        scores: language to the Parquet file to write; token counts are null for a model without a tokenizer.
        settings: JSON file to write: what decides the scores, equal in all languages, and what was counted by language.
        store: folder of finished languages, and of a judge's finished judgements.

    Raises:
        StudyError: the model does not load, a text is too long for it, a reward is not a finite number, all are equal.
    """
    scorer = _scorer(spec, f"reward_models.{slug}", store, tokens_per_batch, requests_at_once, device)
    facts = scorer.settings()
    counts = {}
    for language, pairs in rows.items():
        key = digest_of(["reward model", versions.SCORING, facts, language, list(pairs)])
        kept = store / f"{key}.parquet"
        if not kept.is_file():
            result = scorer.score(language, pairs)
            _check(result, slug, language, pairs)
            table = _table(result, language, pairs)
            table = table.replace_schema_metadata({_COUNTS: json.dumps(result.counts).encode()})
            write_once(kept, partial(pq.write_table, table))
        publish(kept, scores[language])
        counts[language] = json.loads(pq.read_schema(kept).metadata[_COUNTS])
    found = {language: these for language, these in counts.items() if these}
    everything = {**facts, **({"judgements": found} if found else {})}
    settings.write_text(json.dumps(everything, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _scorer(
    spec: Mapping[str, Any], where: str, store: Path, tokens_per_batch: int, requests_at_once: int, device: str
) -> Scorer:
    place = pick_device(device)
    match spec["kind"]:
        case "classifier":
            return Classifier(spec, where, tokens_per_batch, place)
        case "implicit":
            return Implicit(spec, where, tokens_per_batch, place)
        case "likelihood":
            return Likelihood(spec, where, tokens_per_batch, place)
        case "judge":
            return Judge(spec, where, store, tokens_per_batch, requests_at_once, place)
        case "length":
            return Length(spec)
        case _:
            return Random(spec)


def _check(result: Scores, slug: str, language: str, pairs: Sequence[Row]) -> None:
    rewards = np.array([*result.chosen, *result.rejected])
    if not np.isfinite(rewards).all():
        row = pairs[int(np.flatnonzero(~np.isfinite(rewards))[0]) % len(pairs)]
        raise StudyError(
            f"reward_models.{slug}: {int((~np.isfinite(rewards)).sum())} of {len(rewards)} rewards on {language} are not "
            f"finite numbers, the first on row {row['id']!r}; the model is damaged, or needs another dtype (float32)"
        )
    if len(pairs) > 1 and len(set(rewards.tolist())) == 1 and not result.counts:
        raise StudyError(
            f"reward_models.{slug}: all rewards on {language} are {rewards[0]:g}; its head was not in the checkpoint, or "
            "output names the wrong one"
        )


def _table(result: Scores, language: str, pairs: Sequence[Row]) -> pa.Table:
    counted = {"tokens_chosen": result.tokens_chosen, "tokens_rejected": result.tokens_rejected}
    nothing = pa.nulls(len(pairs), pa.int64())
    return pa.table(
        {
            "id": [row["id"] for row in pairs],
            "subset": [row["subset"] for row in pairs],
            "language": [language] * len(pairs),
            "reward_chosen": pa.array(map(float, result.chosen), pa.float64()),
            "reward_rejected": pa.array(map(float, result.rejected), pa.float64()),
            **{k: nothing if v is None else pa.array(v, pa.int64()) for k, v in counted.items()},
        }
    )
