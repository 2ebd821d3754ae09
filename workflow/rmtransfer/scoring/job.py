"""Rewards and last-token hidden states of one model on texts in many languages, in one process and one model load.

Each language's result also rests in a store outside the declared outputs, keyed by everything that decides it. Adding
a language therefore costs one language, and a killed job goes on where it was.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from rmtransfer.kit import stages as versions
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import digest_folder, digest_of
from rmtransfer.kit.progress import Progress
from rmtransfer.models import chat, reward
from rmtransfer.models.device import inference_dtype, pick_device
from rmtransfer.models.states import SIDES, save_states
from rmtransfer.texts.corpus import Row


def score_pairs(
    model: Path,
    rows: Mapping[str, Sequence[Row]],
    scores: Mapping[str, Path] | None,
    states: Mapping[str, Path] | None,
    store: Path,
    *,
    tokens_per_batch: int,
    device: str = "auto",
) -> None:
    """Score preference pairs, language by language.

    Args:
        model: folder of a reward model; of a base model where ``scores`` is None.
        rows: language to pairs.
        scores: language to the Parquet file to write: ``id, subset, language, reward_chosen, reward_rejected,
            tokens_chosen, tokens_rejected``.
        states: None where nobody asks for them; else language to the .npz file to write: ``id`` [n], ``chosen`` and ``rejected`` [n, hidden] in fp32.
        store: folder of finished languages, shared by all models.

    Raises:
        StudyError: a reward is not a finite number, or all are equal.
    """
    scorer = _Scorer(model, scores is not None, tokens_per_batch, device)
    for language, pairs in rows.items():
        key = scorer.key("pairs", language, pairs)
        kept_states, kept_scores = store / f"{key}.npz", store / f"{key}.parquet"
        wanted = [kept_states] * (states is not None) + [kept_scores] * (scores is not None)
        if not all(path.is_file() for path in wanted):
            rewards, hidden, tokens = scorer.run(
                language, [chat.encode_answer(scorer.tokenizer, row["prompt"], row[s]) for s in SIDES for row in pairs]
            )
            n, ids = len(pairs), [row["id"] for row in pairs]
            if rewards is not None:
                columns = {
                    "id": ids,
                    "subset": [row["subset"] for row in pairs],
                    "language": [language] * n,
                    "reward_chosen": rewards[:n],
                    "reward_rejected": rewards[n:],
                    "tokens_chosen": tokens[:n],
                    "tokens_rejected": tokens[n:],
                }
                write_once(kept_scores, partial(pq.write_table, pa.table(columns)))
            if states is not None:
                write_once(kept_states, partial(save_states, ids=ids, chosen=hidden[:n], rejected=hidden[n:]))
        if states is not None:
            publish(kept_states, states[language])
        if scores is not None:
            publish(kept_scores, scores[language])


def score_answers(
    model: Path,
    answers: Mapping[str, Sequence[Row]],
    outputs: Mapping[str, Path],
    store: Path,
    *,
    tokens_per_batch: int,
    device: str = "auto",
) -> None:
    """Score sampled answers: ``id, sample, reward`` in one Parquet file per language.

    Args:
        answers: language to rows of ``id, sample, prompt, answer``.
    """
    scorer = _Scorer(model, True, tokens_per_batch, device)
    for language, rows in answers.items():
        kept = store / f"{scorer.key('answers', language, rows)}.parquet"
        if not kept.is_file():
            rewards, _, _ = scorer.run(
                language, [chat.encode_answer(scorer.tokenizer, row["prompt"], row["answer"]) for row in rows]
            )
            columns = {"id": [r["id"] for r in rows], "sample": [r["sample"] for r in rows], "reward": rewards}
            write_once(kept, partial(pq.write_table, pa.table(columns)))
        publish(kept, outputs[language])


class _Scorer:
    """A model that is loaded when the first language turns out not to be in the store."""

    def __init__(self, folder: Path, has_head: bool, tokens_per_batch: int, device: str) -> None:
        self.folder, self.has_head, self.tokens_per_batch = folder, has_head, tokens_per_batch
        self.device = pick_device(device)
        self.tokenizer = chat.load_tokenizer(folder)
        self._digest = digest_folder(folder)
        self._model: Any = None

    def key(self, kind: str, language: str, rows: Sequence[Row]) -> str:
        precision = str(inference_dtype(self.device))
        return digest_of([kind, versions.SCORING, self._digest, precision, self.has_head, language, list(rows)])

    def run(self, language: str, sequences: list[list[int]]) -> tuple[np.ndarray | None, np.ndarray, list[int]]:
        """Rewards [n] (None without a head), states [n, hidden] and token counts of sequences; equal ones run once."""
        if self._model is None:
            load: Callable[..., Any] = reward.load_reward_model if self.has_head else reward.load_backbone
            self._model = load(self.folder, self.device)
        tokens = [len(s) for s in sequences]
        distinct = {key: position for position, key in enumerate(dict.fromkeys(map(tuple, sequences)))}
        where = [distinct[tuple(s)] for s in sequences]
        progress = Progress(f"scoring {language}", sum(map(len, distinct)), "tokens")
        if not self.has_head:
            hidden = reward.embed(self._model, self.tokenizer, list(distinct), self.tokens_per_batch, progress.advance)
            return None, hidden.numpy()[where], tokens
        rewards, hidden = reward.score(
            self._model, self.tokenizer, list(distinct), self.tokens_per_batch, progress.advance
        )
        if not torch.isfinite(rewards).all():
            raise StudyError(
                f"{self.folder}: {int((~torch.isfinite(rewards)).sum())} of {len(rewards)} rewards on {language} are "
                "not finite numbers; the model is damaged or diverged, train it again with a lower learning rate"
            )
        if len(rewards) > 1 and (rewards == rewards[0]).all():
            raise StudyError(
                f"{self.folder}: all rewards on {language} are {rewards[0].item():g}; the model tells no two answers apart, "
                "train it again with another learning rate"
            )
        return rewards.numpy()[where], hidden.numpy()[where], tokens


def write_once(path: Path, write: Callable[[Path], None]) -> None:
    """Have ``write`` write a file that is there whole or not at all, whoever else writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{os.getpid()}.{path.name}")
    write(draft)
    os.replace(draft, path)


def publish(kept: Path, output: Path) -> None:
    """The declared output is a hard link to the stored file: no second copy, and deleting one keeps the other."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    os.link(kept, output)
    os.utime(output)
