"""Scores of linear heads on hidden states that are there."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rmtransfer.kit.files import write_once
from rmtransfer.kit.manifest import digest_folder
from rmtransfer.models.states import load_states
from rmtransfer.scoring.files import check_rewards, pair_columns, write_settings
from rmtransfer.scoring.heads import Head
from rmtransfer.study.catalogue import HEADS, load
from rmtransfer.study.names import SIDES
from rmtransfer.texts.corpus import Row
from rmtransfer.texts.split import trained_on


def score_states(
    options: Mapping[str, Any],
    key: str,
    base: Path,
    states: Mapping[str, Path],
    rows: Mapping[str, Sequence[Row]],
    scores: Mapping[str, Path],
    settings: Path,
    *,
    pairs: Path | None = None,
    held_out: float = 0,
) -> None:
    """Score preference pairs with a linear head on hidden states that are there: no model is loaded.

    Args:
        options: the head as the config names it, its ``kind`` among them.
        key: names it in messages.
        base: folder of the base model that the states are of.
        states: language to the states of ``rows``.
        rows: language to preference pairs.
        scores, settings: what to write, see :class:`rmtransfer.scoring.job.Outputs`.
        pairs: states of the training pairs that a fitted head is fitted to.
        held_out: share of them that are kept out of training, and so of this, too.

    Raises:
        StudyError: a reward is not a finite number, all rewards of a fitted head are equal.
    """
    kind = load(HEADS, options["kind"])
    named = kind.Options(**options)
    head: Head = kind(named)
    training, fitted = None, {}
    if pairs is not None:
        training = load_states(pairs)
        ids = training["id"].tolist()
        known = trained_on(ids, held_out)
        mine = [i for i, identity in enumerate(ids) if identity in known]
        training = {side: training[side][mine] for side in SIDES}
        fitted = {"pairs": len(mine), "held_out": len(ids) - len(mine)}
    weights, alike = None, {}
    for language, texts in rows.items():
        found = load_states(states[language])
        place = {identity: i for i, identity in enumerate(found["id"].tolist())}
        order = [place[row["id"]] for row in texts]
        if weights is None:
            weights = head.weights(found[SIDES[0]].shape[1], training)
        # In fp64, because these are few and a product of long vectors loses bits that verdicts hang on.
        rewards = np.stack([found[side][order].astype(np.float64) @ weights.T for side in SIDES], axis=1)
        # One input to the base is one state, as in scores of models (:class:`rmtransfer.scoring.job.Outputs`).
        alike[language] = int((found[SIDES[0]][order] == found[SIDES[1]][order]).all(axis=1).sum())
        tokens = np.stack([found[f"tokens_{side}"][order] for side in SIDES], axis=1)
        tables = []
        for seed in range(len(weights)):
            drawn = rewards[:, :, seed]
            check_rewards(head, key, drawn.ravel(), language, [row["id"] for row in texts for _ in SIDES])
            columns = pair_columns(language, texts, drawn, tokens)
            tables.append(pa.table({**columns, **({"seed": [seed] * len(texts)} if len(weights) > 1 else {})}))
        write_once(scores[language], partial(pq.write_table, pa.concat_tables(tables)))
    model = f"sha256:{digest_folder(base)}"
    certain = {language: pairs for language, pairs in alike.items() if pairs}
    counted = {"ties_by_construction": certain} if certain else {}
    write_settings(settings, {**named.model_dump(), "model": model, **head.settings(), **fitted, **counted})
