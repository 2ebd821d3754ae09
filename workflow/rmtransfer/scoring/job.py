"""The one way in which anything is scored: a reward model of any kind on texts in many languages, in one process.

Preference pairs and sampled answers, a benchmark and its back-translation, our models and those of others are the same job
with other inputs. Each finished language also rests in a cache outside the declared outputs, keyed by everything that
decides it: a new language costs one language, and a killed job goes on where it was.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rmtransfer.kit import stages
from rmtransfer.kit.cores import Cores
from rmtransfer.kit.files import publish, write_once
from rmtransfer.kit.manifest import digest_of
from rmtransfer.kit.progress import report
from rmtransfer.models.states import save_states
from rmtransfer.scoring.files import check_rewards, pair_columns, write_settings
from rmtransfer.scoring.reward_model import Resources, RewardModel, Rewards, TrunkStore
from rmtransfer.study.catalogue import REWARD_MODELS, load
from rmtransfer.study.names import JUDGEMENTS
from rmtransfer.texts.corpus import Row
from rmtransfer.texts.items import Place, by_row, items_of

_COUNTS, _ALIKE = b"counts", b"alike"


class Outputs(NamedTuple):
    """The files to write; nothing for what nobody asks for.

    Attributes:
        scores: language to Parquet file. Pairs: ``id, subset, language, reward_chosen, reward_rejected, tokens_chosen,
            tokens_rejected``, where token counts are null for a model without a tokenizer of its own; ``cluster`` where the
            rows have it; ``seed`` where a kind draws several heads, with the rows of one below those of another. Sampled
            answers: ``id, sample, reward``. A judge's judgements are written beside it as ``<language>.judgements.parquet``: ``id,
            order, verdict, text, finished``, where ``order`` is chosen_first or rejected_first (pairwise), chosen or rejected
            (rating), ``verdict`` is null where the text holds none, and ``finished`` null where nobody knows.
        states: language to .npz file, see :mod:`rmtransfer.models.states`.
        settings: JSON file: what decides the scores, equal in all languages; under ``judgements``, by language, how many
            rows a judge was asked about (``n``) and what it did with them, as its protocol counts; under
            ``ties_by_construction``, by language, how many pairs are one input to the model, whose template or tokenizer drops
            what differs, where there are any.
    """

    scores: Mapping[str, Path] | None = None
    states: Mapping[str, Path] | None = None
    settings: Path | None = None


def score(
    options: Mapping[str, Any],
    key: str,
    rows: Mapping[str, Sequence[Row]],
    outputs: Outputs,
    cache: Path,
    *,
    tokens_per_batch: int,
    requests_at_once: int,
    device: str,
    cores: Cores | None = None,
    trunk: TrunkStore | None = None,
) -> None:
    """Score texts with one reward model, language by language.

    Args:
        options: the reward model as the config names it, its ``kind`` among them; models are folders or pinned hub ids,
            ``chat_template`` is Jinja text.
        key: names the reward model in messages.
        rows: language to preference pairs, or to sampled answers (``id, sample, prompt, answer``).
        cache: folder of finished languages, and of a judge's finished judgements; shared by all models.
        cores: this job's share of the machine's; None for one worker.
        trunk: what rests of layers that training leaves as they are.

    Raises:
        StudyError: the model does not load, a text is too long for it, a reward is not a finite number, all rewards of a
            model that learned are equal, a judge does not answer.
    """
    kind = load(REWARD_MODELS, options["kind"])
    named = kind.Options(**options)
    model: RewardModel = kind(named, key, Resources(device, tokens_per_batch, requests_at_once, cache, cores, trunk))
    facts = {"kind": named.kind, **model.settings()}
    counts, alike = {}, {}
    for language, texts in rows.items():
        digest = digest_of(["reward model", stages.SCORING.version, facts, language, list(texts)])
        kept_scores, kept_states, kept_judgements = (cache / f"{digest}{s}" for s in (".parquet", ".npz", JUDGEMENTS))
        wanted = [kept_scores] * bool(outputs.scores) + [kept_states] * bool(outputs.states)
        if not all(path.is_file() for path in wanted):
            items, places = items_of(texts, by_text=model.by_text)
            with cores or nullcontext():
                found = model.rewards(language, items)
            if outputs.scores:
                assert found.values is not None
                answers = [answer.row for item in items for answer in item.answers]
                check_rewards(
                    model, key, np.concatenate([np.asarray(these) for these in found.values]), language, answers
                )
                if found.judgements:
                    kinds = dict.fromkeys(("id", "order", "verdict", "text"), pa.string()) | {"finished": pa.bool_()}
                    columns = pa.schema(list(kinds.items()))
                    table = pa.Table.from_pylist(list(found.judgements), schema=columns)
                    write_once(kept_judgements, partial(pq.write_table, table))
                write_once(kept_scores, partial(pq.write_table, _table(found, language, texts, places)))
            if outputs.states:
                assert found.states is not None
                assert found.tokens is not None  # what has states has a tokenizer
                chosen, rejected = map(np.stack, zip(*by_row(found.states, places), strict=True))
                ids, tokens = [row["id"] for row in texts], by_row(found.tokens, places)
                write_once(kept_states, partial(save_states, ids=ids, chosen=chosen, rejected=rejected, tokens=tokens))
        if outputs.states:
            publish(kept_states, outputs.states[language])
        if outputs.scores:
            publish(kept_scores, outputs.scores[language])
            if kept_judgements.is_file():
                publish(kept_judgements, outputs.scores[language].with_suffix(JUDGEMENTS))
            said = pq.read_schema(kept_scores).metadata
            counts[language], alike[language] = json.loads(said[_COUNTS]), int(said.get(_ALIKE, 0))
    if outputs.settings is not None:
        # What the user named, but for texts whose digest is among the facts.
        given = named.model_dump(exclude_defaults=True, exclude={name.removesuffix("_sha256") for name in facts})
        judged = {language: these for language, these in counts.items() if these}
        certain = {language: pairs for language, pairs in alike.items() if pairs}
        counted = {"judgements": judged, "ties_by_construction": certain}
        write_settings(
            outputs.settings, {**given, **facts, **{name: these for name, these in counted.items() if these}}
        )


def _table(found: Rewards, language: str, rows: Sequence[Row], places: Sequence[Sequence[Place]]) -> pa.Table:
    assert found.values is not None
    rewards = np.array(by_row(found.values, places))  # [rows, answers of a row]
    if "answer" in rows[0]:
        columns = {
            "id": [row["id"] for row in rows],
            "sample": [row["sample"] for row in rows],
            "reward": rewards[:, 0],
        }
    else:
        tokens = None if found.tokens is None else np.array(by_row(found.tokens, places))
        columns = pair_columns(language, rows, rewards, tokens)
    inputs = by_row(found.inputs, places) if found.inputs is not None else []
    alike = sum(len(set(these)) < len(these) for these in inputs)
    if alike:
        report(f"{language}: {alike:,} pairs are one input to the model each, and ties by construction")
    noted = {_COUNTS: json.dumps(dict(found.counts)).encode()} | ({_ALIKE: str(alike).encode()} if alike else {})
    return pa.table(columns).replace_schema_metadata(noted)
