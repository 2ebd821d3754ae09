"""Train one Bradley-Terry reward model with TRL's RewardTrainer."""

import contextlib
import gc
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from trl import RewardConfig, RewardTrainer

from rmtransfer.kit import stages
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import digest_folder, digest_of, write_manifest
from rmtransfer.kit.progress import Progress, report
from rmtransfer.models import chat, reward
from rmtransfer.models.device import pick_device, train_with_onednn
from rmtransfer.texts.corpus import Message, Row

_RESCORED_PAIRS = 4
_PIPELINE = (
    "from transformers import pipeline",
    "",
    'folder = "."  # this folder',
    "conversation = [",
    '    {"role": "user", "content": "What is the capital of France?"},',
    '    {"role": "assistant", "content": "Paris."},',
    "]",
    'reward_model = pipeline("text-classification", model=folder)',
    "text = reward_model.tokenizer.apply_chat_template(conversation, tokenize=False)",
    'reward = reward_model(text)[0]["score"]',
)
_FORWARD_PASS = (
    "import torch",
    "from transformers import AutoModelForSequenceClassification, AutoTokenizer",
    "",
    "tokenizer = AutoTokenizer.from_pretrained(folder)",
    "model = AutoModelForSequenceClassification.from_pretrained(folder)",
    "text = tokenizer.apply_chat_template(conversation, tokenize=False)",
    "with torch.inference_mode():",
    '    reward = model(**tokenizer(text, return_tensors="pt")).logits.item()',
)


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
) -> None:
    """Train on ``rows``, save to ``output``, reload from disk and rescore, and only then write the manifest.

    The loss is -log sigmoid(r(x, chosen) - r(x, rejected)), averaged over pairs (Bradley-Terry; Ouyang et al., arXiv
    2203.02155, equation 1). Batch size in memory, device and interruptions do not change what is learnt; the training
    state rests in ``work`` under a hash of everything that does.

    Args:
        base: folder of the base model.
        recipe: the config's ``training`` section.
        card: ``base_model``, ``train_language`` and ``languages`` (comma-separated), for the model card and manifest.
        work: folder for training states; emptied of this model's when it is done.

    Raises:
        StudyError: a pair is longer than ``recipe["max_length"]``, or more layers are frozen than there are.
        RuntimeError: the saved model does not give the rewards of the trained one.
    """
    on = pick_device(device)
    tokenizer = chat.load_tokenizer(base)
    pairs = encode_pairs(tokenizer, rows, recipe["max_length"])
    state = work / digest_of([stages.TRAINING.version, digest_folder(base), pairs, dict(recipe), seed])
    model = reward.build_reward_model(base, seed)
    freeze(model, recipe["frozen_layers"], recipe["freeze_embeddings"])
    train_with_onednn(model.base_model, on)

    longest = max(len(ids) for pair in pairs for ids in pair.values())
    per_pass = _divisor(recipe["pairs_per_step"], max(1, tokens_per_batch // (2 * longest)))
    arguments = RewardConfig(
        output_dir=str(state),
        learning_rate=recipe["learning_rate"],
        num_train_epochs=recipe["epochs"],
        per_device_train_batch_size=per_pass,
        gradient_accumulation_steps=recipe["pairs_per_step"] // per_pass,
        warmup_steps=recipe["warmup_ratio"],
        lr_scheduler_type="cosine",
        seed=seed,
        max_length=None,
        bf16=on.type == "cuda",
        use_cpu=on.type == "cpu",
        gradient_checkpointing=False,
        dataloader_pin_memory=on.type == "cuda",
        save_strategy="no",
        save_total_limit=1,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
    )
    # Of several visible GPUs a job uses one: Trainer would spread batches over all of them, which TRL refuses.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    steps = -(-len(pairs) // recipe["pairs_per_step"]) * recipe["epochs"]
    trainer = _Trainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer,
        callbacks=[_StepCount(steps), _TimedCheckpoints(checkpoint_minutes)],
        tokens_per_batch=tokens_per_batch,
    )
    resume = get_last_checkpoint(str(state)) if state.is_dir() else None
    if resume:
        report(f"going on from {Path(resume).name}")
    trainer.train(resume_from_checkpoint=resume)

    save_reward_model(model, tokenizer, output, card, recipe, trainer.state.log_history)
    probe = [row["prompt"] + row[side] for row in rows[:_RESCORED_PAIRS] for side in ("chosen", "rejected")]
    ids = [ids for pair in pairs[:_RESCORED_PAIRS] for ids in pair.values()]
    expected, _ = reward.score(model.eval(), tokenizer, ids, tokens_per_batch)
    del model, trainer  # two models and an optimiser do not have to fit at once
    gc.collect()
    rescored = rescore(output, probe, expected, on)
    write_manifest(
        output,
        {
            "stage": "train",
            "version": stages.TRAINING.version,
            **card,
            "seed": seed,
            "pairs": len(pairs),
            "training": dict(recipe),
            "device": on.type,
            "largest_difference_after_reload": rescored,
        },
    )
    shutil.rmtree(state, ignore_errors=True)
    with contextlib.suppress(OSError):  # another model's state may still be in there
        work.rmdir()


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], max_length: int
) -> list[dict[str, list[int]]]:
    """Rows as TRL's pre-tokenised ``chosen_ids`` and ``rejected_ids``.

    Raises:
        StudyError: a sequence is longer than ``max_length``; selection drops such rows, so this is a stale file.
    """
    pairs = []
    for row in rows:
        pair = {
            f"{side}_ids": chat.encode_answer(tokenizer, row["prompt"], row[side]) for side in ("chosen", "rejected")
        }
        if max(map(len, pair.values())) > max_length:
            raise StudyError(f"row {row['id']}: longer than training.max_length = {max_length} tokens")
        pairs.append(pair)
    return pairs


def freeze(model: PreTrainedModel, layers: int, embeddings: bool) -> None:
    """Keep the first ``layers`` blocks, and the embedding table if ``embeddings``, as they are."""
    blocks: Any = model.base_model.layers
    if layers > len(blocks):
        raise StudyError(f"training.frozen_layers: {layers} is more than the {len(blocks)} layers of the base model")
    for block in blocks[:layers]:
        block.requires_grad_(False)
    # Gradients that reach no trainable parameter are never computed, but frozen blocks above a trainable table are
    # passed through all the same.
    if embeddings:
        model.get_input_embeddings().requires_grad_(False)


def save_reward_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    output: Path,
    card: Mapping[str, str],
    recipe: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
) -> None:
    """Write weights, tokenizer with its chat template, and a model card."""
    output.mkdir(parents=True, exist_ok=True)
    model.config.use_cache = True
    model.config.problem_type = "regression"  # a pipeline then returns the reward and not its sigmoid
    model.save_pretrained(output)
    chat.save_reward_tokenizer(tokenizer, output)
    steps = [h for h in history if "accuracy" in h]
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-classification",
        f"language: [{card['languages']}]",
        "tags: [reward-model, trl]",
        "---",
        "",
        f"# Reward model: {card['base_model']} trained on {card['train_language']}",
        "",
        "Bradley-Terry reward model, one scalar per conversation, higher is better. It reads conversations as the",
        "tokenizer's chat template renders them:",
        "",
        "```python",
        *_PIPELINE,
        "```",
        "",
        "The same by a forward pass:",
        "",
        "```python",
        *_FORWARD_PASS,
        "```",
        "",
        "| | |",
        "|---|---|",
        *[f"| {key} | {value} |" for key, value in {**card, **recipe}.items()],
        *([f"| training loss, last step | {steps[-1]['loss']:.4f} |"] if steps else []),
        "",
        "The base model's licence applies to these weights.",
        "",
    ]
    (output / "README.md").write_text("\n".join(lines), encoding="utf-8")


def rescore(
    folder: Path, conversations: Sequence[Sequence[Message]], expected: torch.Tensor, device: torch.device
) -> float:
    """The largest difference between ``expected`` rewards [n] and those of what ``folder`` holds, as its card reads it.

    Raises:
        RuntimeError: it is more than rounding explains.
    """
    saved = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    tokenizer = chat.load_tokenizer(folder)
    texts = [str(tokenizer.apply_chat_template(list(c), tokenize=False)) for c in conversations]
    with torch.inference_mode():
        got = [saved(**tokenizer(text, return_tensors="pt").to(device)).logits.item() for text in texts]
    difference = (torch.tensor(got) - expected).abs().max().item()
    if not difference <= 1e-3:  # also true for NaN
        raise RuntimeError(f"{folder}: reloaded from disk it gives rewards that differ by {difference:.2g}")
    report(f"reloaded from disk and rescored: rewards differ by at most {difference:.1e}")
    return difference


def _divisor(number: int, limit: int) -> int:
    """The largest divisor of ``number`` up to ``limit``: equal parts, so that a mean of means is the mean."""
    return max(d for d in range(1, number + 1) if number % d == 0 and d <= limit)


class _Trainer(RewardTrainer):
    """TRL's trainer and loss, over a forward pass that does not compute the padding."""

    def __init__(self, *, tokens_per_batch: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tokens_per_batch = tokens_per_batch

    def compute_loss(self, model, inputs, *args, **kwargs):
        def forward(input_ids, attention_mask, use_cache):
            with self.accelerator.autocast():  # otherwise entered by the model's own forward, which this goes around
                return reward.bucketed_forward(model, input_ids, attention_mask, self.tokens_per_batch)

        return super().compute_loss(forward, inputs, *args, **kwargs)


class _StepCount(TrainerCallback):
    def __init__(self, steps: int) -> None:
        self.progress = Progress("training", steps, "steps")

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            note = f"loss {logs['loss']:.3f}, training accuracy {logs['accuracy']:.2f}"
            self.progress.advance(state.global_step - self.progress.done, note)


class _TimedCheckpoints(TrainerCallback):
    """By the clock: short runs write none, long runs lose at most so many minutes."""

    def __init__(self, minutes: float) -> None:
        self.seconds = minutes * 60
        self.saved = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        if time.monotonic() - self.saved >= self.seconds and state.global_step < state.max_steps:
            control.should_save = True

    def on_save(self, args, state, control, **kwargs):
        self.saved = time.monotonic()
