"""Optimiser steps of a reward model: TRL's trainer and metrics over packs of a step's pairs, in one process or several."""

import gc
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel, TrainerCallback
from transformers.modeling_outputs import SequenceClassifierOutput
from trl import RewardTrainer

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.progress import Progress, report
from rmtransfer.models import reward
from rmtransfer.models.batching import length_batches
from rmtransfer.models.packing import PACKED, Batch, group_of, lone, packs
from rmtransfer.models.trunk import Trunk

Pair = tuple[Sequence[int], Sequence[int]]

REMEDY = (
    "lower resources.tokens_per_batch or training.max_length, freeze layers, or set training.adapter or, on a GPU, "
    "training.optimizer: paged_adamw_8bit"
)


def give_rewards(model: torch.nn.Module, classifier: PreTrainedModel, trunk: Trunk | None = None) -> None:
    """Have ``model(pack=batch)`` return the rewards [texts] of a batch's texts in fp32, in the order of its members.

    Bound to the model itself, so that what wraps it or hooks into its call (autocast, DDP, FSDP) sees every pass.

    Args:
        model: the classifier, or the adapted model around it.
    """

    def forward(pack: Batch) -> torch.Tensor:
        rewards = reward.rewards_of(classifier, reward.last_token_states(classifier, pack, trunk))
        return rewards.clone()  # of a view, FSDP warns at every pass

    model.forward = forward


def recompute_activations(model: PreTrainedModel) -> None:
    """Have a model in training keep what enters each block and compute the rest of its activations twice."""
    model.activation_checkpointing_enable({"use_reentrant": False})


def pair_batches(pairs: Sequence[Pair], which: Sequence[int], budget: int, *, packed: bool) -> list[Batch]:
    """Some of the pairs as what a model computes, within a budget of tokens or one pair each: packs, or padded rows.

    Of pair i, chosen is text 2i and rejected text 2i + 1; they follow each other in one batch.
    """
    if packed:
        return list(packs([group_of(pairs[i], 2 * i) for i in which], budget))
    return [
        Batch([lone(pairs[i][side], 2 * i + side) for i in chosen for side in (0, 1)], padded=True)
        for chosen in _of_similar_length(pairs, which, budget // 2)
    ]


def _of_similar_length(pairs: Sequence[Pair], which: Sequence[int], budget: int) -> Iterator[list[int]]:
    for batch in length_batches([max(map(len, pairs[i])) for i in which], budget):
        yield [which[i] for i in batch]


def shares(pairs: Sequence[Pair], processes: int) -> list[list[int]]:
    """Which pairs each process computes, so that all have about as many tokens; the same wherever it is asked."""
    found: list[list[int]] = [[] for _ in range(processes)]
    tokens = [0] * processes
    for i in sorted(range(len(pairs)), key=lambda i: -sum(map(len, pairs[i]))):
        least = tokens.index(min(tokens))
        found[least].append(i)
        tokens[least] += sum(map(len, pairs[i]))
    return [sorted(share) for share in found]


class PackTrainer(RewardTrainer):
    """TRL's trainer, data order and metrics; a step's pairs are computed in packs, whose sizes do not weigh.

    Every process is given all pairs of a step and computes its share of them, as many passes as the others do: FSDP's
    communication would wait for ever for a pass that one of them left out.

    Args:
        model: one that gives rewards (:func:`give_rewards`).
        classifier: the same, or what an adapter was put into.
        tokens_per_batch: of one pass; halved when memory runs out.
        recompute: whether activations are computed again instead of kept when memory runs out after that.
    """

    def __init__(
        self, *, classifier: PreTrainedModel, tokens_per_batch: int, recompute: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.classifier, self.tokens_per_batch = classifier, tokens_per_batch
        self.packed = classifier.config._attn_implementation == PACKED
        self._halved, self._may_recompute = False, recompute

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Gradients of the mean loss over a step's pairs; returns that loss.

        Raises:
            StudyError: there is too little memory, whatever may be tried.
        """
        model.train()
        lengths = inputs["attention_mask"].sum(1).tolist()
        texts = [ids[:length] for ids, length in zip(inputs["input_ids"].tolist(), lengths, strict=True)]
        half = len(texts) // 2
        pairs = list(zip(texts[:half], texts[half:], strict=True))
        while (rewards := self._passes_in_memory(model, pairs)) is None:
            self.make_room(model, pairs)
        both = SequenceClassifierOutput(logits=torch.cat([rewards[0::2], rewards[1::2]])[:, None])
        if not self.is_world_process_zero():  # TRL adds up the tokens of all processes
            inputs["attention_mask"] = torch.zeros_like(inputs["attention_mask"])
        return self.compute_loss(lambda **_: both, inputs)

    def passes(self, model: torch.nn.Module, pairs: Sequence[Pair]) -> torch.Tensor:
        """Rewards [2 * pairs], chosen and rejected of each pair in turn; adds the gradients of the mean loss."""
        processes = self.args.world_size
        by_process = [
            pair_batches(pairs, share, self.tokens_per_batch, packed=self.packed) for share in shares(pairs, processes)
        ]
        mine = by_process[self.args.process_index]
        rewards = torch.zeros(2 * len(pairs), device=self.args.device)
        for batch in mine:
            found = model(pack=batch)
            rewards[batch.members] = found.detach()
            # FSDP takes the mean over processes, where the sum is wanted.
            loss = -logsigmoid(found[0::2] - found[1::2]).sum() * processes / len(pairs)
            self.accelerator.backward(loss)
        least = min(range(len(pairs)), key=lambda i: sum(map(len, pairs[i])))
        for _ in range(max(map(len, by_process)) - len(mine)):
            (batch,) = pair_batches(pairs, [least], 0, packed=self.packed)
            self.accelerator.backward(model(pack=batch).sum() * 0)
        return self.accelerator.reduce(rewards, "sum")

    def _passes_in_memory(self, model: torch.nn.Module, pairs: Sequence[Pair]) -> torch.Tensor | None:
        """:meth:`passes`, or None where memory runs out. The error, which holds on to activations, ends here."""
        try:
            return self.passes(model, pairs)
        except (RuntimeError, MemoryError) as problem:
            if not out_of_memory(problem):
                raise
            return None

    def make_room(self, model: torch.nn.Module, pairs: Sequence[Pair]) -> None:
        """Forget what a step has done so far, and have it need less memory."""
        model.zero_grad(set_to_none=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if not self._halved:
            self._halved = True
            computed = sum(len(text) for pair in pairs for text in pair)
            self.tokens_per_batch = max(1, min(self.tokens_per_batch, computed) // 2)
            report(f"out of memory: the step is done again, {self.tokens_per_batch:,} tokens at a time")
        elif self._may_recompute:
            self._may_recompute = False
            recompute_activations(self.classifier)
            report("out of memory again: from here on activations are computed twice instead of kept")
        else:
            raise StudyError(f"out of memory at {self.tokens_per_batch:,} tokens at a time; {REMEDY}")


def out_of_memory(problem: BaseException) -> bool:
    """Whether it says that a GPU's memory, or the machine's, does not suffice."""
    known = isinstance(problem, torch.OutOfMemoryError | MemoryError)
    return known or any(said in str(problem) for said in ("DefaultCPUAllocator", "not enough memory"))


class StepCount(TrainerCallback):
    """Tells how far training is."""

    def __init__(self, steps: int) -> None:
        self.progress = Progress("training", steps, "steps")

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            note = f"loss {logs['loss']:.3f}, training accuracy {logs['accuracy']:.2f}"
            self.progress.advance(state.global_step - self.progress.done, note)


class TimedCheckpoints(TrainerCallback):
    """By the clock of the first process: short runs write none, long runs lose at most so many minutes."""

    def __init__(self, minutes: float) -> None:
        self.seconds = minutes * 60
        self.saved = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        due = time.monotonic() - self.saved >= self.seconds
        if args.world_size > 1:
            said = torch.tensor(int(due), device=args.device)
            torch.distributed.broadcast(said, 0)
            due = bool(said)
        if due and state.global_step < state.max_steps:
            control.should_save = True

    def on_save(self, args, state, control, **kwargs):
        self.saved = time.monotonic()
