"""Train one Bradley-Terry reward model with TRL's RewardTrainer."""

import contextlib
import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoConfig, PreTrainedTokenizerBase

from rmtransfer.kit import stages
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.kept import Keep
from rmtransfer.kit.manifest import digest_folder, digest_of, write_manifest
from rmtransfer.models import chat, shards
from rmtransfer.models.artifact import rescore
from rmtransfer.models.device import pick_device
from rmtransfer.models.fit import RESCORED_PAIRS, Fit, fit, free_memory
from rmtransfer.models.packing import group_of
from rmtransfer.models.processes import fit_together
from rmtransfer.models.reading import check_ids, check_max_length, most_tokens
from rmtransfer.study.footprint import warn_of_training
from rmtransfer.texts.corpus import Row


def train_reward_model(
    base: Path,
    rows: Sequence[Row],
    recipe: Mapping[str, Any],
    seed: int,
    output: Path,
    work: Path,
    *,
    card: Mapping[str, str],
    tokens_per_batch: int,
    checkpoint_minutes: float,
    device: str,
    processes: int = 1,
    gradient_checkpointing: bool | str = "auto",
    trunk_store: Path | None = None,
    trunk_gigabytes: float = 0,
    held_out: Sequence[Row] = (),
    keep: Keep | None = None,
) -> None:
    """Train on ``rows``, save to ``output``, reload from disk and rescore, and only then write the manifest.

    The loss is -log sigmoid(r(x, chosen) - r(x, rejected)), averaged over pairs (Bradley-Terry; Ouyang et al., arXiv
    2203.02155, equation 1). Batch size in memory, device, number of processes and interruptions do not change what is learnt,
    up to rounding; the training state rests in ``work`` under a hash of everything that does. On a CPU, in fp32, rounding stays
    below what a reward is printed with. On a GPU products are in bf16, so that the same recipe with another token budget,
    number of processes or disk for the trunk gives a like model and not the same one: the manifest says how it was, and scores
    are of the weights that came out.

    Args:
        base: folder of the base model.
        recipe: the config's ``training`` section, but for what says how fast.
        card: ``base_model``, ``train_language`` and ``languages`` (comma-separated), for the model card and manifest.
        work: folder for training states; emptied of this model's when it is done.
        processes: how many train it together, on a GPU each or all on the CPU.
        gradient_checkpointing: whether activations are computed twice instead of kept; "auto": when memory runs out.
        trunk_store: folder for states of texts after the frozen layers, which may take ``trunk_gigabytes``; None for none.
        held_out: pairs that are not trained on; how well they are told apart meanwhile goes into the training log.
        keep: where the finished model is kept; None for nowhere.

    Raises:
        StudyError: a pair is longer than ``recipe["max_length"]``, or that is more than the base model reads; the recipe does
            not go with the base model or the machine; training diverges; or memory runs out.
        RuntimeError: the saved model does not give the rewards of the trained one.
    """
    on = pick_device(device)
    check_machine(recipe["optimizer"], processes, on)
    tokenizer = chat.load_tokenizer(base)
    all_rows = [*rows, *held_out]
    pairs = encode_pairs(tokenizer, all_rows, recipe["max_length"])
    config = AutoConfig.from_pretrained(base)
    check_max_length(recipe["max_length"], most_tokens(config), card["base_model"])
    sides = [(ids, f"row {row['id']!r}") for row, pair in zip(all_rows, pairs, strict=True) for ids in pair.values()]
    check_ids(sides, config, f"base_models.{card['base_model']}", "remove the row")
    longest = max(group_of([pair["chosen_ids"], pair["rejected_ids"]]).tokens for pair in pairs)
    texts = [{**pair, "held_out": number >= len(rows)} for number, pair in enumerate(pairs)]
    how = {**recipe, "processes": processes, "gradient_checkpointing": gradient_checkpointing}
    warn_of_training(base, how, tokens_per_batch, longest, on.type == "cuda")
    state = work / digest_of([stages.TRAINING.version, digest_folder(base), texts, dict(recipe), seed])
    job = Fit(
        base=str(base),
        recipe=dict(recipe),
        gradient_checkpointing=gradient_checkpointing,
        processes=processes,
        seed=seed,
        state=str(state),
        output=str(output),
        card=dict(card),
        tokens_per_batch=tokens_per_batch,
        checkpoint_minutes=checkpoint_minutes,
        device=on.type,
        trunk_store=str(trunk_store) if trunk_store else None,
        trunk_gigabytes=trunk_gigabytes,
    )
    dataset = Dataset.from_list(texts)
    free_memory()  # a large vocabulary takes much while it is read
    expected = fit(job, tokenizer, dataset) if processes == 1 else fit_together(job, dataset)
    free_memory()  # of the trained model, before another copy is read
    shards.share(output, base)
    probe = [row["prompt"] + row[side] for row in rows[:RESCORED_PAIRS] for side in ("chosen", "rejected")]
    rescored = rescore(output, probe, torch.tensor(expected), on)
    write_manifest(
        output,
        {
            "stage": "train",
            "version": stages.TRAINING.version,
            **card,
            "seed": seed,
            "pairs": len(rows),
            "held_out_pairs": len(held_out),
            "training": dict(recipe),
            "trunk": {"base": digest_folder(base), "layers": job.unchanged_layers} if job.unchanged_layers else None,
            "device": on.type,
            "tokens_per_batch": tokens_per_batch,
            "processes": processes,
            "largest_difference_after_reload": rescored,
        },
        base,
    )
    if keep is not None:
        keep.put()
    shutil.rmtree(state, ignore_errors=True)
    with contextlib.suppress(OSError):  # another model's state may still be in there
        work.rmdir()


def check_machine(optimizer: str, processes: int, on: torch.device) -> None:
    """Whether a recipe can be followed here.

    Raises:
        StudyError: it asks for more than there is.
    """
    if optimizer != "adamw":
        key = f"training.optimizer: {optimizer}"
        if on.type != "cuda":
            raise StudyError(f"{key} needs a GPU; set adamw, or run on one")
        if importlib.util.find_spec("bitsandbytes") is None:
            raise StudyError(
                f"{key} needs the package bitsandbytes; install it (pip install bitsandbytes), or set adamw"
            )
        if processes > 1:  # bitsandbytes issue 1633
            raise StudyError(f"{key} works in one process only; set adamw, which training.processes share out")
    if on.type == "cuda" and processes > torch.cuda.device_count():
        raise StudyError(
            f"training.processes: {processes} is more than the GPUs here ({torch.cuda.device_count()}); lower it"
        )


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], max_length: int
) -> list[dict[str, list[int]]]:
    """Rows as TRL's pre-tokenised ``chosen_ids`` and ``rejected_ids``.

    Raises:
        StudyError: a sequence is longer than ``max_length``; selection drops such rows, so this is a stale file.
    """
    pairs = []
    for row in rows:
        what = f"row {row['id']!r}"
        pair = {
            f"{side}_ids": chat.encode_answer(tokenizer, row["prompt"], row[side], what)
            for side in ("chosen", "rejected")
        }
        if max(map(len, pair.values())) > max_length:
            raise StudyError(f"row {row['id']}: longer than training.max_length = {max_length} tokens")
        pairs.append(pair)
    return pairs
