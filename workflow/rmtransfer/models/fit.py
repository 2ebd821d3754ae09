"""Fit one reward model to pairs and save it: in this process, or as one of several that do it together."""

import contextlib
import ctypes
import gc
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl import RewardConfig
from trl.trainer.utils import disable_dropout_in_model

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import digest_folder
from rmtransfer.kit.progress import report
from rmtransfer.models import adapters, artifact, reward
from rmtransfer.models.attention import prefer_packs
from rmtransfer.models.device import pick_device, train_with_onednn
from rmtransfer.models.families import blocks_of
from rmtransfer.models.fsdp import ShardedTrainer, shard, trained_weights
from rmtransfer.models.steps import (
    REMEDY,
    HeadStart,
    HeldOut,
    PackTrainer,
    Pair,
    StepCount,
    TimedCheckpoints,
    check_finite,
    give_rewards,
    out_of_memory,
    recompute_activations,
)
from rmtransfer.models.training_log import training_log
from rmtransfer.models.trunk import Trunk, build_trunk
from rmtransfer.study.config import unchanged_layers

RESCORED_PAIRS = 2
OPTIMIZERS = {
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
}


class Fit(NamedTuple):
    """What is fitted and how, of what JSON can say.

    Attributes:
        base: folder of the base model.
        recipe: the config's ``training`` section, but for the two keys that follow.
        gradient_checkpointing: true, false, or "auto": when memory runs out.
        processes: how many do it together.
        state: folder for what is resumed from.
        output: folder that the model is saved to.
        trunk_store: folder for states of texts after the frozen layers; None for none.
    """

    base: str
    recipe: dict[str, Any]
    gradient_checkpointing: bool | str
    processes: int
    seed: int
    state: str
    output: str
    card: dict[str, str]
    tokens_per_batch: int
    checkpoint_minutes: float
    device: str
    trunk_store: str | None
    trunk_gigabytes: float

    @property
    def unchanged_layers(self) -> int:
        """First blocks that, embeddings included, are as in the base model."""
        return unchanged_layers(self.recipe)


class Model(NamedTuple):
    """A classifier that gives rewards; ``whole`` is itself, or the adapted model around it."""

    whole: Any
    classifier: Any


def fit(job: Fit, tokenizer: PreTrainedTokenizerBase, pairs: Dataset) -> list[float] | None:
    """Train and save.

    Args:
        tokenizer: the base model's.
        pairs: ``chosen_ids`` and ``rejected_ids`` of each, and whether it is ``held_out``.

    Returns:
        rewards of the first few pairs' texts, chosen and rejected in turn; None but for the first process.

    Raises:
        StudyError: the recipe does not go with the model, or memory runs out.
    """
    on = pick_device(job.device)
    folder = job.state if job.processes == 1 else str(Path(job.state) / "parts")
    arguments = training_arguments(job.recipe, folder, job.seed, on)
    model = build(job, on)
    trunk = None
    if job.processes > 1:
        shard(*model, arguments.device)
    else:
        model.classifier.to(on)
        trunk = _trunk(job, model)
    give_rewards(*model, trunk)
    out = pairs["held_out"]
    trained_on, kept_out = (
        pairs.select([i for i, this in enumerate(out) if this is of]).remove_columns("held_out") for of in (False, True)
    )
    steps = -(-len(trained_on) // job.recipe["pairs_per_step"]) * job.recipe["epochs"]
    trainer = (PackTrainer if job.processes == 1 else ShardedTrainer)(
        model=model.whole,
        classifier=model.classifier,
        args=arguments,
        train_dataset=trained_on,
        processing_class=tokenizer,
        callbacks=[StepCount(steps), TimedCheckpoints(job.checkpoint_minutes)],
        tokens_per_batch=job.tokens_per_batch,
        recompute=job.gradient_checkpointing == "auto",
        head_learning_rate=job.recipe.get("head_learning_rate"),
    )
    trainer.add_callback(HeadStart(trainer, job.recipe["head"], _texts(trained_on)))
    trainer.add_callback(HeldOut(trainer, _texts(kept_out), steps, job.recipe["evaluations"]))
    resume = last_checkpoint(Path(str(arguments.output_dir)))
    if resume:
        report(f"going on from {Path(resume).name}")
    try:
        trainer.train(resume_from_checkpoint=resume)
    except (RuntimeError, MemoryError) as problem:
        if out_of_memory(problem):  # elsewhere than in a step, where something can be done about it
            raise StudyError(f"out of memory; {REMEDY}") from problem
        raise
    history = trainer.state.log_history
    if job.processes > 1:
        trained = trained_weights(model.whole)
        del trainer, model
        free_memory()
        if arguments.process_index:
            return None
        model = build(job, on)
        model.whole.load_state_dict(trained, strict=False)
        model.classifier.to(on)
    else:
        del trainer, trunk  # the optimiser does not have to fit beside what follows
        free_memory()
    log = training_log(history, len(trained_on), job.recipe["pairs_per_step"])
    return _save(job, model, tokenizer, log, _texts(trained_on)[:RESCORED_PAIRS])


def last_checkpoint(states: Path) -> str | None:
    """The last checkpoint that was written to its end; None where there is none.

    Trainer goes on from the last folder there is. One whose writing was cut off, by a kill or a full disk, has no whole
    trainer_state.json, which comes last, and the one before is there still.
    """
    whole = {}
    for folder in states.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        with contextlib.suppress(OSError, ValueError, LookupError):
            state = json.loads((folder / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
            whole[state["global_step"]] = str(folder)
    return whole[max(whole)] if whole else None


def _texts(pairs: Dataset) -> list[Pair]:
    return [(pair["chosen_ids"], pair["rejected_ids"]) for pair in pairs]


def build(job: Fit, on: torch.device) -> Model:
    """The model before the first step.

    Raises:
        StudyError: the recipe does not go with it.
    """
    classifier = reward.build_reward_model(Path(job.base), job.seed)
    freeze(classifier, job.recipe["frozen_layers"], job.recipe["freeze_embeddings"])
    prefer_packs(classifier)
    without_dropout(classifier)
    whole: Any = classifier
    adapter = job.recipe.get("adapter")
    if adapter:
        whole = adapters.add_adapter(classifier, adapter, job.recipe["frozen_layers"], job.seed)
    train_with_onednn(classifier.base_model, on)
    if job.gradient_checkpointing is True:
        recompute_activations(classifier)
    return Model(whole, classifier)


def without_dropout(model: PreTrainedModel) -> None:
    """Have a model drop nothing in training either, whether by modules or, as OPT and XGLM do, by a number of a block."""
    disable_dropout_in_model(model)
    for module in model.modules():
        for name, value in [*vars(module).items()]:
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def free_memory() -> None:
    """Give back what nothing refers to any more, which glibc would keep for later (kit/machine.py tells it to)."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def freeze(model: PreTrainedModel, layers: int, embeddings: bool) -> None:
    """Keep the first ``layers`` blocks, and the embedding tables (tokens and positions) if ``embeddings``, as they are."""
    if layers:
        _, blocks = blocks_of(model.base_model)
        if layers > len(blocks):
            raise StudyError(
                f"training.frozen_layers: {layers} is more than the {len(blocks)} layers of the base model"
            )
        for block in blocks[:layers]:
            block.requires_grad_(False)
    # Gradients that reach no trainable parameter are never computed, but frozen blocks above a trainable table are
    # passed through all the same.
    if embeddings:
        for module in model.base_model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.requires_grad_(False)


def training_arguments(recipe: Mapping[str, Any], folder: str, seed: int, on: torch.device) -> RewardConfig:
    """What TRL is told of a recipe; training states go into ``folder``."""
    arguments = RewardConfig(
        output_dir=folder,
        learning_rate=recipe["learning_rate"],
        num_train_epochs=recipe["epochs"],
        per_device_train_batch_size=recipe["pairs_per_step"],
        warmup_steps=recipe["warmup_ratio"],
        lr_scheduler_type="cosine",
        optim=OPTIMIZERS[recipe["optimizer"]],
        seed=seed,
        max_length=None,
        disable_dropout=False,  # of the base model it is off; an adapter's is wanted
        bf16=on.type == "cuda",
        use_cpu=on.type == "cpu",
        gradient_checkpointing=False,  # switched on by the model, if at all
        dataloader_pin_memory=on.type == "cuda",
        save_strategy="no",
        save_total_limit=1,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
    )
    # Of several visible GPUs a process uses one: Trainer would spread batches over all of them, which TRL refuses.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _trunk(job: Fit, model: Model) -> Trunk | None:
    if job.trunk_store is None:
        return None
    base = digest_folder(Path(job.base))
    return build_trunk(model.classifier, base, job.unchanged_layers, Path(job.trunk_store), job.trunk_gigabytes)


def _save(
    job: Fit,
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    log: Sequence[Mapping[str, float]],
    probe: Sequence[Pair],
) -> list[float]:
    whole, classifier = model
    if job.recipe.get("adapter", {}).get("merge"):
        whole = classifier = adapters.merged(whole)
    rewards, _ = reward.score(classifier.eval(), [text for pair in probe for text in pair], job.tokens_per_batch)
    check_finite(rewards, log, job.recipe.get("head_learning_rate"))
    artifact.save_reward_model(whole, tokenizer, Path(job.output), job.card, job.recipe, log)
    return rewards.tolist()
