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

from rmtransfer.kit import stages as versions
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import digest_of
from rmtransfer.models.device import pick_device
from rmtransfer.models.loading import Scorer, Scores, Source
from rmtransfer.scoring.baselines import Length, Likelihood, Random
from rmtransfer.scoring.classifier import Classifier
from rmtransfer.scoring.implicit import Implicit
from rmtransfer.scoring.job import publish, write_once
from rmtransfer.scoring.judge import Judge, JudgeServer, LocalJudge
from rmtransfer.texts.corpus import Row

JUDGEMENTS = ".judgements.parquet"  # in place of a score file's suffix
_COUNTS = b"counts"
_NAMES = ("path", "revision", "policy", "reference", "reference_revision", "tokenizer", "server")
_NEVER_CONSTANT = ("classifier", "implicit", "likelihood")


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
    """Score preference pairs, language by language, as :func:`rmtransfer.scoring.job.score_pairs` does.

    Args:
        spec: the config entry; ``chat_template`` holds Jinja text here.
        slug: the entry's name, for messages.
        rows: language to pairs.
        scores: language to the Parquet file to write; token counts are null for a model without a tokenizer of its own. A
            judge's judgements are written beside it as ``<language>.judgements.parquet``: ``id, order, verdict, text``,
            where ``order`` is chosen_first or rejected_first (pairwise), chosen or rejected (rating), and ``verdict`` is
            null where the text holds none.
        settings: JSON file to write: what decides the scores, equal in all languages; under ``judgements``, by language,
            how many pairs a judge was asked about (``n``) and what it did with them. Pairwise they are ``consistent``
            (the same answer wins in both orders), ``prefers_first`` or ``prefers_second`` (the same place wins),
            ``tied`` (at least one order) or ``off_format`` (no verdict in at least one order), which sum to ``n``.
            Rating: ``tied`` and ``off_format``.
        store: folder of finished languages, and of a judge's finished judgements.

    Raises:
        StudyError: the model does not load, a text is too long for it, a reward is not a finite number, all rewards of a
            model that learned are equal, a judge does not answer.
    """
    where = f"reward_models.{slug}"
    scorer = _scorer(spec, where, store, tokens_per_batch, requests_at_once, device)
    facts = {"kind": spec["kind"], **scorer.settings()}
    counts = {}
    for language, pairs in rows.items():
        key = digest_of(["reward model", versions.SCORING, facts, language, list(pairs)])
        kept, kept_judgements = store / f"{key}.parquet", store / f"{key}{JUDGEMENTS}"
        if not kept.is_file():
            result = scorer.score(language, pairs)
            _check(result, spec["kind"], where, language, pairs)
            if result.judgements:
                columns = pa.schema([(name, pa.string()) for name in ("id", "order", "verdict", "text")])
                table = pa.Table.from_pylist(list(result.judgements), schema=columns)
                write_once(kept_judgements, partial(pq.write_table, table))
            write_once(kept, partial(pq.write_table, _table(result, language, pairs)))
        publish(kept, scores[language])
        if kept_judgements.is_file():
            publish(kept_judgements, scores[language].with_suffix(JUDGEMENTS))
        counts[language] = json.loads(pq.read_schema(kept).metadata[_COUNTS])
    found = {language: these for language, these in counts.items() if these}
    named = {name: spec[name] for name in _NAMES if name in spec}
    everything = {**named, **facts, **({"judgements": found} if found else {})}
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(everything, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _scorer(
    spec: Mapping[str, Any], where: str, store: Path, tokens_per_batch: int, requests_at_once: int, device: str
) -> Scorer:
    source = partial(Source, spec, where, pick_device(device))
    match spec["kind"]:
        case "classifier":
            return Classifier(source(), tokens_per_batch)
        case "implicit":
            return Implicit(source("policy"), source("reference", "reference_revision"), tokens_per_batch)
        case "judge":
            longest = spec.get("max_new_tokens", 512)
            if "server" in spec:
                return Judge(spec, where, store, JudgeServer(spec["server"], where, longest, requests_at_once), longest)
            return Judge(spec, where, store, LocalJudge(source(), longest, tokens_per_batch), longest)
        case "likelihood":
            return Likelihood(source(), tokens_per_batch)
        case "length":
            return Length(source("tokenizer") if "tokenizer" in spec else None)
        case _:
            return Random(spec)


def _check(result: Scores, kind: str, where: str, language: str, pairs: Sequence[Row]) -> None:
    rewards = np.array([*result.chosen, *result.rejected])
    strange = np.flatnonzero(~np.isfinite(rewards))
    if len(strange):
        raise StudyError(
            f"{where}: {len(strange)} of {len(rewards)} rewards on {language} are not finite numbers, the first on row "
            f"{pairs[strange[0] % len(pairs)]['id']!r}; the model is damaged, or needs dtype: float32"
        )
    if kind in _NEVER_CONSTANT and (rewards == rewards[0]).all():
        raise StudyError(
            f"{where}: all {len(rewards)} rewards on {language} are {rewards[0]:g}; the model tells no two answers apart: "
            "its weights are not those of a reward model, or policy and reference are the same, or output names the "
            "wrong one"
        )


def _table(result: Scores, language: str, pairs: Sequence[Row]) -> pa.Table:
    counted = {"tokens_chosen": result.tokens_chosen, "tokens_rejected": result.tokens_rejected}
    nothing = pa.nulls(len(pairs), pa.int64())
    table = pa.table(
        {
            "id": [row["id"] for row in pairs],
            "subset": [row["subset"] for row in pairs],
            "language": [language] * len(pairs),
            "reward_chosen": pa.array(map(float, result.chosen), pa.float64()),
            "reward_rejected": pa.array(map(float, result.rejected), pa.float64()),
            **{k: nothing if v is None else pa.array(v, pa.int64()) for k, v in counted.items()},
        }
    )
    return table.replace_schema_metadata({_COUNTS: json.dumps(dict(result.counts)).encode()})
