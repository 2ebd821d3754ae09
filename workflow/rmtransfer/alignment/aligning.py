"""Align one policy with what a reward model prefers of its own answers: DPO, or fine-tuning on the best of n."""

import contextlib
import copy
import math
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from peft import TaskType
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerBase

from rmtransfer.alignment.pairs import Choice
from rmtransfer.kit import stages
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.files import write_once
from rmtransfer.kit.kept import Keep
from rmtransfer.kit.manifest import digest_folder, digest_of, read_manifest, write_manifest
from rmtransfer.kit.progress import report
from rmtransfer.models import adapters, chat, reading, shards
from rmtransfer.models.attention import prefer_packs
from rmtransfer.models.device import pick_device, train_with_onednn
from rmtransfer.models.fit import free_memory, freeze, last_checkpoint, training_arguments, without_dropout
from rmtransfer.models.likelihoods import above_trunk, answer_log_likelihoods, most_tokens
from rmtransfer.models.loading import shared_with_prompt
from rmtransfer.models.packing import Batch
from rmtransfer.models.steps import (
    REMEDY,
    PackTrainer,
    Pair,
    StepCount,
    TimedCheckpoints,
    out_of_memory,
    recompute_activations,
)
from rmtransfer.models.training import check_machine
from rmtransfer.models.trunk import Trunk, build_trunk
from rmtransfer.models.vocabulary import frozen_head
from rmtransfer.study.config import unchanged_layers

LOG = "training_log.csv"
LOG_COLUMNS = ("step", "learning_rate", "loss", "accuracy", "margin")
DPO, SFT = "dpo", "sft"
LEFT_OUT = ("too_long", "same_tokens", "no_tokens")
_REREAD = 2  # pairs
_REFERENCE = "reference.npy"  # log-likelihoods of all texts, chosen and rejected in turn
_KEY = re.compile(r"(?<![\w.])training\.")


class Preference:
    """The implicit reward of a text, beta (log pi(y | x) - log pi_ref(y | x)), whose Bradley-Terry loss is that of DPO.

    Rafailov et al., arXiv 2305.18290, equation 7. Without log-likelihoods of a reference it is log pi(y | x).

    Args:
        starts: text to the number of its prompt's tokens.
        beta: how dear it is to move away from the reference.
    """

    def __init__(self, starts: Mapping[tuple[int, ...], int], beta: float) -> None:
        self.starts, self._beta = starts, beta
        self._reference: Mapping[tuple[int, ...], float] | None = None

    def refer_to(self, reference: Mapping[tuple[int, ...], float] | None) -> None:
        """Have the log-likelihoods under the reference model, or none."""
        self._reference = reference

    def of(self, texts: Sequence[tuple[int, ...]], likelihoods: torch.Tensor) -> torch.Tensor:
        """Implicit rewards [texts]."""
        if self._reference is None:
            return likelihoods
        return self._beta * (likelihoods - likelihoods.new_tensor([self._reference[text] for text in texts]))


class FineTuning(PackTrainer):
    """The same steps with another loss: the mean over a step's answers' tokens of -log pi(token | what stands before it)."""

    def __init__(self, *, preference: Preference, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.preference = preference

    def training_step(self, model, inputs, num_items_in_batch=None):
        """See :class:`rmtransfer.models.steps.PackTrainer`."""
        pairs, likelihoods = self.gradients(model, inputs)
        return -likelihoods[0::2].sum() / self._tokens(pairs)

    def passes(self, model: torch.nn.Module, pairs: Sequence[Pair]) -> torch.Tensor:
        """Log-likelihoods [2 * pairs]; adds the gradients of the loss."""
        likelihoods = torch.zeros(2 * len(pairs), device=self.args.device)
        for batch, _ in self._batches(pairs):
            found = model(pack=batch)
            likelihoods[batch.members] = found.detach()
            self.accelerator.backward(-found[0::2].sum() / self._tokens(pairs))
        return likelihoods

    def _tokens(self, pairs: Sequence[Pair]) -> int:
        return sum(len(chosen) - self.preference.starts[tuple(chosen)] for chosen, _ in pairs)


def align_policy(
    policy: Path,
    choices: Sequence[Choice],
    counts: Mapping[str, Mapping[str, int]],
    recipe: Mapping[str, Any],
    method: str,
    seed: int,
    output: Path,
    work: Path,
    *,
    card: Mapping[str, str],
    tokens_per_batch: int,
    checkpoint_minutes: float,
    device: str,
    gradient_checkpointing: bool | str = "auto",
    trunk_store: Path | None = None,
    trunk_gigabytes: float = 0,
    keep: Keep | None = None,
) -> None:
    """Train on ``choices``, save to ``output``, reload from disk and read again, and only then write the manifest.

    ``dpo`` is TRL's: the loss is -log sigmoid of the difference between the implicit rewards of chosen and rejected, averaged
    over pairs, with the policy before the first step as the reference; its log-likelihoods are computed once. ``sft`` is the mean
    of -log pi over the tokens of the chosen answers of a step. Trained are answers alone, and the end that the template puts to
    them where they ended by themselves.

    Args:
        policy: folder of the policy that answered.
        choices: of all languages.
        counts: language to what became of its instructions, for the manifest.
        recipe: the config's ``alignment.training``, but for what says how fast.
        card: ``policy``, ``method``, ``selector`` and ``languages`` (comma-separated), for the model card and manifest.
        work: folder for training states; emptied of this policy's when it is done.
        gradient_checkpointing: whether activations are computed twice instead of kept; "auto": when memory runs out.
        trunk_store: folder for states of texts after the frozen layers, which may take ``trunk_gigabytes``; None for none.
        keep: where the finished policy is kept; None for nowhere.

    Raises:
        StudyError: there is nothing to prefer; the recipe does not go with the policy or the machine; training diverges; or
            memory runs out.
        RuntimeError: the saved policy does not give the likelihoods of the trained one.
    """
    on = pick_device(device)
    read_manifest(policy)
    tokenizer = chat.load_tokenizer(policy)
    pairs, starts, left_out = _encoded(tokenizer, choices, method, recipe["max_length"], f"policies.{card['policy']}")
    if not pairs:
        raise StudyError(
            f"{card['policy']}: {card['selector']} prefers none of its answers to another, so that there is nothing to align it "
            f"on ({_said(counts, left_out)}); sample more answers (alignment.samples), raise the temperature, or select by another"
        )
    state = work / digest_of([stages.ALIGNING.version, digest_folder(policy), pairs, dict(recipe), method, seed])
    with _keys_of_alignment():
        check_machine(recipe["optimizer"], 1, on)
        reading.check_max_length(
            recipe["max_length"], reading.most_tokens(AutoConfig.from_pretrained(policy)), card["policy"]
        )
        model, whole = _build(policy, recipe, seed, on)
    config = copy.deepcopy(model.config)
    model.config.num_labels = 1  # TRL asks for it of whatever gives rewards
    if gradient_checkpointing is True:
        recompute_activations(model)
    unchanged = unchanged_layers(recipe)
    trunk = None
    if trunk_store is not None:
        trunk = build_trunk(model, digest_folder(policy), unchanged, trunk_store, trunk_gigabytes)
    preference = Preference(starts, recipe["beta"] if method == DPO else 1.0)
    forward = _forward(model, trunk, preference)
    whole.forward = forward
    arguments = training_arguments(recipe, str(state), seed, on)
    steps = -(-len(pairs) // recipe["pairs_per_step"]) * recipe["epochs"]
    few = frozen_head(model) is not None  # logits at a time
    shared: dict[str, Any] = {
        "model": whole,
        "classifier": model,
        "args": arguments,
        "train_dataset": Dataset.from_list([{"chosen_ids": list(c), "rejected_ids": list(r)} for c, r in pairs]),
        "processing_class": tokenizer,
        "callbacks": [StepCount(steps), TimedCheckpoints(checkpoint_minutes)],
        "tokens_per_batch": tokens_per_batch if few else min(tokens_per_batch, most_tokens(model, on, torch.float32)),
        "recompute": gradient_checkpointing == "auto",
    }
    trainer = PackTrainer(**shared) if method == DPO else FineTuning(preference=preference, **shared)
    texts = [tuple(text) for pair in pairs for text in pair]
    resume = last_checkpoint(state)
    with _keys_of_alignment():
        if method == DPO:
            preference.refer_to(dict(zip(texts, _reference(trainer, pairs, state), strict=True)))
        if resume:
            report(f"going on from {Path(resume).name}")
        trainer.train(resume_from_checkpoint=resume)
        preference.refer_to(None)
        whole.forward = forward  # without the lower precision that accelerate has put around it on a GPU
        expected = trainer.read(pairs[:_REREAD])
    log = _log(trainer.state.log_history)
    del trainer, shared
    if whole is not model:
        model = adapters.merged(whole)
    model.__dict__.pop("forward", None)
    model.config = config
    _save(model, tokenizer, output, card, recipe, log)
    del model, whole, trunk, forward
    free_memory()  # of the trained model, before another copy is read
    shards.share(output, policy)
    difference = _reread(output, texts[: 2 * _REREAD], starts, expected, on)
    write_manifest(
        output,
        {
            "stage": "align",
            "version": stages.ALIGNING.version,
            **card,
            "seed": seed,
            "pairs": len(pairs),
            "instructions": {language: dict(of_language) for language, of_language in counts.items()},
            "left_out": left_out,
            "unfinished_chosen": sum(not choice.finished[0] for choice in choices),
            "training": dict(recipe),
            "policy_digest": digest_folder(policy),
            "trunk": {"base": digest_folder(policy), "layers": unchanged} if unchanged else None,
            "device": on.type,
            "tokens_per_batch": tokens_per_batch,
            "largest_difference_after_reload": difference,
        },
        policy,
    )
    if keep is not None:
        keep.put()
    shutil.rmtree(state, ignore_errors=True)
    with contextlib.suppress(OSError):  # another model's state may still be in there
        work.rmdir()


@contextlib.contextmanager
def _keys_of_alignment() -> Iterator[None]:
    """What training says of its keys and of too little memory, said of those of ``alignment.training``.

    Raises:
        StudyError: as it was, with these keys.
    """
    try:
        yield
    except StudyError as problem:
        raise StudyError(_KEY.sub("alignment.training.", str(problem))) from problem
    except (RuntimeError, MemoryError) as problem:
        if out_of_memory(problem):  # elsewhere than in a step, where something can be done about it
            raise StudyError(_KEY.sub("alignment.training.", f"out of memory; {REMEDY}")) from problem
        raise


def _build(policy: Path, recipe: Mapping[str, Any], seed: int, on: torch.device) -> tuple[Any, Any]:
    """The policy before the first step, in fp32, and the adapted model around it, or itself.

    Raises:
        StudyError: the recipe does not go with it.
    """
    model: Any = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    freeze(model, recipe["frozen_layers"], recipe["freeze_embeddings"])
    prefer_packs(model)
    without_dropout(model)
    whole = model
    if recipe.get("adapter"):
        whole = adapters.add_adapter(model, recipe["adapter"], recipe["frozen_layers"], seed, TaskType.CAUSAL_LM)
    train_with_onednn(model, on)
    model.to(on)
    return model, whole


def _reference(trainer: PackTrainer, pairs: Sequence[Pair], state: Path) -> list[float]:
    """Log-likelihoods [2 * pairs] under the policy before the first step, in the precision that it is trained in.

    They are computed once, and rest beside the checkpoints.
    """
    path = state / _REFERENCE
    if not path.is_file():
        report(f"reading {len(pairs):,} pairs as the reference")
        with trainer.accelerator.autocast():
            found = trainer.read(pairs).numpy()
        write_once(path, partial(np.save, arr=found))
    return np.load(path).tolist()


def _encoded(
    tokenizer: PreTrainedTokenizerBase, choices: Sequence[Choice], method: str, max_length: int, key: str
) -> tuple[list[Pair], dict[tuple[int, ...], int], dict[str, int]]:
    """Pairs of token ids, each text's number of prompt tokens, and how many choices are left out, and why.

    An answer starts where the ids of prompt and answer part from those of the prompt that the policy was asked with, as in TRL's
    DPOTrainer. Of a supervised pair both sides are the chosen answer.

    Args:
        key: config key of the policy, for messages.

    Raises:
        StudyError: the template refuses a conversation, or it cannot be told where its answer starts.
    """
    encode = partial(chat.encode, tokenizer)
    pairs: list[Pair] = []
    starts: dict[tuple[int, ...], int] = {}
    left_out = Counter(dict.fromkeys(LEFT_OUT, 0))
    for choice in choices:
        what = f"row {choice.id!r} in {choice.language}"
        sides = [choice.chosen, choice.rejected][: 2 if method == DPO else 1]
        texts = [
            tuple(chat.encode_answer(tokenizer, choice.prompt, answer, what, ended=ended))
            for answer, ended in zip(sides, choice.finished, strict=False)
        ]
        found = {text: shared_with_prompt(encode, choice.prompt, text, what, key) for text in texts}
        if max(map(len, texts)) > max_length:
            left_out["too_long"] += 1
        elif len(found) < len(texts):  # the template or the tokenizer drops what differs
            left_out["same_tokens"] += 1
        elif any(start == len(text) for text, start in found.items()):  # nothing, cut off
            left_out["no_tokens"] += 1
        else:
            starts |= {text: max(start, 1) for text, start in found.items()}  # nothing stands before the first token
            pairs.append((texts[0], texts[-1]))
    return pairs, starts, dict(left_out)


def _said(counts: Mapping[str, Mapping[str, int]], left_out: Mapping[str, int]) -> str:
    total = Counter(left_out)
    for of_language in counts.values():
        total.update({name: number for name, number in of_language.items() if name != "pairs"})
    return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in total.items() if number)


def _forward(model: Any, trunk: Trunk | None, preference: Preference) -> Callable[..., torch.Tensor]:
    """What ``model(pack=batch)`` returns: the implicit rewards [texts] of its texts."""
    stock = type(model).forward
    upper = above_trunk(model, trunk)
    if upper is model:  # whose own forward is about to be replaced
        upper = copy.copy(model)
    upper.__dict__["forward"] = stock.__get__(upper)

    def forward(pack: Batch, head: bool = True) -> torch.Tensor:
        tokens = pack.input_ids.flatten()
        texts = [tuple(tokens[place].tolist()) for place in pack.places]
        starts = [preference.starts[text] for text in texts]
        embeds = trunk.embeds(pack) if trunk is not None else None
        return preference.of(texts, answer_log_likelihoods(upper, pack, starts, embeds))

    return forward


def _log(history: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """One row of ``LOG_COLUMNS`` a step: the loss, and of dpo the share of pairs whose implicit rewards are in order, and their
    mean difference, before the step moved any weight."""
    return [{name: entry.get(name, math.nan) for name in LOG_COLUMNS} for entry in history if "loss" in entry]


@torch.inference_mode()
def _likelihoods(
    model: Any, texts: Sequence[tuple[int, ...]], starts: Mapping[tuple[int, ...], int], on: torch.device
) -> torch.Tensor:
    """Log-likelihoods [texts] by a model's own forward pass, one text at a time."""
    found = []
    for text in texts:
        ids = torch.tensor([text], device=on)
        logits = model(input_ids=ids).logits[0, starts[text] - 1 : -1].float()
        likely = logits.gather(-1, ids[0, starts[text] :, None]).squeeze(-1)
        found.append((likely - logits.logsumexp(-1)).sum().cpu())  # on a CPU log_softmax is less exact
    return torch.stack(found)


def _reread(
    folder: Path,
    texts: Sequence[tuple[int, ...]],
    starts: Mapping[tuple[int, ...], int],
    expected: torch.Tensor,
    on: torch.device,
) -> float:
    """The largest difference between ``expected`` log-likelihoods and those of what ``folder`` holds.

    Raises:
        RuntimeError: it is more than rounding explains.
    """
    saved: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    difference = float((_likelihoods(saved.to(on).eval(), texts, starts, on) - expected).abs().max())
    if not difference <= 1e-3 + 1e-5 * float(expected.abs().max()):  # also true for NaN
        raise RuntimeError(f"{folder}: reloaded from disk it gives log-likelihoods that differ by {difference:.2g}")
    report(f"reloaded from disk and read again: log-likelihoods differ by at most {difference:.1e}")
    return difference


def _save(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    output: Path,
    card: Mapping[str, str],
    recipe: Mapping[str, Any],
    log: Sequence[Mapping[str, float]],
) -> None:
    output.mkdir(parents=True, exist_ok=True)
    model.config.use_cache = True
    model.save_pretrained(output)
    chat.save_tokenizer(tokenizer, output)
    pd.DataFrame(list(log), columns=list(LOG_COLUMNS)).to_csv(output / LOG, index=False, float_format="%.6g")
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        f"language: [{card['languages']}]",
        f"tags: [{card['method']}, trl]",
        "---",
        "",
        f"# {card['policy']}, aligned by {card['method']} with the reward model {card['selector']}",
        "",
        "Aligned on its own answers to the study's instructions, of which the reward model preferred one to another.",
        "",
        "| | |",
        "|---|---|",
        *[f"| {key} | {value} |" for key, value in {**card, **recipe}.items()],
        "",
        "The policy's licence applies to these weights.",
        "",
    ]
    (output / "README.md").write_text("\n".join(lines), encoding="utf-8")
