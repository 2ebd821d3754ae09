"""Optimiser steps of a reward model: TRL's trainer and metrics over packs of a step's pairs, in one process or several."""

import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel, TrainerCallback
from transformers.modeling_outputs import SequenceClassifierOutput
from trl import RewardTrainer

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.progress import Progress, report
from rmtransfer.models import reward
from rmtransfer.models.attention import evaluating
from rmtransfer.models.batching import length_batches
from rmtransfer.models.packing import PACKED, Batch, group_of, lone, packs
from rmtransfer.models.probe import fit_probe
from rmtransfer.models.trunk import Trunk

Pair = tuple[Sequence[int], Sequence[int]]

REMEDY = (
    "lower resources.tokens_per_batch or training.max_length, freeze layers, or set training.adapter or, on a GPU, "
    "training.optimizer: paged_adamw_8bit"
)


def give_rewards(model: torch.nn.Module, classifier: PreTrainedModel, trunk: Trunk | None = None) -> None:
    """Have ``model(pack=batch)`` return the rewards [texts] of a batch's texts in fp32, in the order of its members.

    With ``head=False`` it returns the last-token states [texts, hidden] that they are read from.

    Bound to the model itself, so that what wraps it or hooks into its call (autocast, DDP, FSDP) sees every pass.

    Args:
        model: the classifier, or the adapted model around it.
    """

    def forward(pack: Batch, head: bool = True) -> torch.Tensor:
        states = reward.last_token_states(classifier, pack, trunk)
        return reward.rewards_of(classifier, states).clone() if head else states  # of a view, FSDP warns at every pass

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
        head_learning_rate: peak rate of the score head; None for that of all else.
    """

    def __init__(
        self,
        *,
        classifier: PreTrainedModel,
        tokens_per_batch: int,
        recompute: bool = False,
        head_learning_rate: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.classifier, self.tokens_per_batch = classifier, tokens_per_batch
        self.head_learning_rate = head_learning_rate
        self.packed = classifier.config._attn_implementation == PACKED
        self._halved, self._may_recompute = False, recompute

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Gradients of the mean loss over a step's pairs; returns that loss.

        Raises:
            StudyError: there is too little memory, whatever may be tried; or a reward is not a finite number.
        """
        _, rewards = self.gradients(model, inputs)
        both = SequenceClassifierOutput(logits=torch.cat([rewards[0::2], rewards[1::2]])[:, None])
        if not self.is_world_process_zero():  # TRL adds up the tokens of all processes
            inputs["attention_mask"] = torch.zeros_like(inputs["attention_mask"])
        return self.compute_loss(lambda **_: both, inputs)

    def gradients(self, model: torch.nn.Module, inputs: Mapping[str, Any]) -> tuple[list[Pair], torch.Tensor]:
        """The pairs of a step and what :meth:`passes` says of them, once their gradients are there.

        Raises:
            StudyError: as :meth:`training_step`.
        """
        model.train()
        lengths = inputs["attention_mask"].sum(1).tolist()
        texts = [ids[:length] for ids, length in zip(inputs["input_ids"].tolist(), lengths, strict=True)]
        half = len(texts) // 2
        pairs: list[Pair] = list(zip(texts[:half], texts[half:], strict=True))
        while (rewards := self._passes_in_memory(model, pairs)) is None:
            self.make_room(model, pairs)
        check_finite(rewards, self.state.log_history, self.head_learning_rate)
        return pairs, rewards

    def create_optimizer(self, model=None):
        """The head with a rate of its own in a group of its own, which the schedule scales like the others."""
        optimizer = super().create_optimizer(model)
        if self.head_learning_rate is not None:
            head = reward.score_head(self.classifier).weight
            for group in optimizer.param_groups:
                group["params"] = [parameter for parameter in group["params"] if parameter is not head]
            optimizer.add_param_group({"params": [head], "lr": self.head_learning_rate, "weight_decay": 0.0})
        return optimizer

    def passes(self, model: torch.nn.Module, pairs: Sequence[Pair]) -> torch.Tensor:
        """Rewards [2 * pairs], chosen and rejected of each pair in turn; adds the gradients of the mean loss."""
        rewards = torch.zeros(2 * len(pairs), device=self.args.device)
        for batch, counts in self._batches(pairs):
            found = model(pack=batch)
            loss = found.sum() * 0
            if counts:
                rewards[batch.members] = found.detach()
                # FSDP takes the mean over processes, where the sum is wanted.
                loss = -logsigmoid(found[0::2] - found[1::2]).sum() * self.args.world_size / len(pairs)
            self.accelerator.backward(loss)
        return self.accelerator.reduce(rewards, "sum")

    @torch.no_grad()
    def read(self, pairs: Sequence[Pair], *, head: bool = True) -> torch.Tensor:
        """What the model as it is makes of pairs, on the CPU of every process, in fp32.

        Returns:
            rewards [2 * pairs], chosen and rejected of each pair in turn; with ``head=False`` states [2 * pairs, hidden].

        Raises:
            StudyError: one is not a finite number.
        """
        model: Any = self.model
        found = []
        with evaluating(model):
            for first in range(0, len(pairs), self.args.per_device_train_batch_size):
                some = pairs[first : first + self.args.per_device_train_batch_size]
                values = None
                for batch, counts in self._batches(some):
                    these = model(pack=batch, head=head).float()
                    if values is None:
                        values = these.new_zeros(2 * len(some), *these.shape[1:])
                    if counts:
                        values[batch.members] = these
                found.append(self.accelerator.reduce(values, "sum").cpu())
        values = torch.cat(found)
        check_finite(values, self.state.log_history, self.head_learning_rate)
        return values

    def set_head(self, weights: torch.Tensor) -> None:
        """Give the score head these weights [1, hidden]."""
        reward.score_head(self.classifier).weight.data.copy_(weights)

    def _batches(self, pairs: Sequence[Pair]) -> Iterator[tuple[Batch, bool]]:
        """What this process computes of some pairs, and whether it counts: those with fewer passes repeat the shortest pair."""
        by_process = [
            pair_batches(pairs, share, self.tokens_per_batch, packed=self.packed)
            for share in shares(pairs, self.args.world_size)
        ]
        mine = by_process[self.args.process_index]
        yield from ((batch, True) for batch in mine)
        least = min(range(len(pairs)), key=lambda i: sum(map(len, pairs[i])))
        for _ in range(max(map(len, by_process)) - len(mine)):
            (batch,) = pair_batches(pairs, [least], 0, packed=self.packed)
            yield batch, False

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


def check_finite(
    values: torch.Tensor, log: Sequence[Mapping[str, float]], head_learning_rate: float | None = None
) -> None:
    """Stop a training that has diverged where it did, and not after its last step.

    Args:
        values: rewards or states of a model.
        log: of its training so far; an entry of a step holds ``step``, ``loss`` and ``learning_rate``.
        head_learning_rate: the score head's, where it has one of its own.

    Raises:
        StudyError: not all are finite numbers.
    """
    if values.isfinite().all():
        return
    last = next((entry for entry in reversed(log) if "loss" in entry), None)
    if last is None:
        raise StudyError(
            "training: rewards are no finite numbers at step 1, before anything is learnt; the base model's weights are "
            "damaged, or larger than its precision holds here (resources.device: cpu computes in fp32): name another base model"
        )
    own = " and training.head_learning_rate" if head_learning_rate is not None else ""
    raise StudyError(
        f"training has diverged: after step {last['step']:g}, with a learning rate of {last['learning_rate']:.2g}, rewards are "
        f"no finite numbers; lower training.learning_rate{own}, or raise training.warmup_ratio or training.pairs_per_step"
    )


def out_of_memory(problem: BaseException) -> bool:
    """Whether it says that a GPU's memory, or the machine's, does not suffice."""
    known = isinstance(problem, torch.OutOfMemoryError | MemoryError)
    return known or any(said in str(problem) for said in ("DefaultCPUAllocator", "not enough memory"))


class HeadStart(TrainerCallback):
    """Starts the score head, unless training goes on from a checkpoint, which holds it.

    ``normal`` leaves it as :func:`rmtransfer.models.reward.build_reward_model` drew it. ``zero`` has the first steps move the
    head alone. ``probe`` fits it to the base model's states of the training pairs, so that training starts from what these
    already tell and does not first bend them to a head that says nothing ("linear probing then fine-tuning", Kumar et al.,
    arXiv 2202.10054). Neither depends on the seed.
    """

    def __init__(self, trainer: PackTrainer, how: str, pairs: Sequence[Pair]) -> None:
        self.trainer, self.how, self.pairs = trainer, how, pairs

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step or self.how == "normal":
            return
        weights = np.zeros(reward.score_head(self.trainer.classifier).in_features)
        if self.how == "probe":
            states = self.trainer.read(self.pairs, head=False).numpy()
            weights = fit_probe(states[0::2], states[1::2])
            right = ((states[0::2] - states[1::2]) @ weights > 0).mean()
            report(f"the score head starts as a probe of the base model: training accuracy {right:.2f}")
        self.trainer.set_head(torch.tensor(weights[None], dtype=torch.float32))


class HeldOut(TrainerCallback):
    """Loss and accuracy on pairs that are kept out of training: before the first step, after the last, and evenly between.

    They go into the trainer's history, and with it into checkpoints. A tie is half right, so that a head that starts at zero
    starts at chance.
    """

    def __init__(self, trainer: PackTrainer, pairs: Sequence[Pair], steps: int, evaluations: int) -> None:
        self.trainer, self.pairs = trainer, pairs
        self.at = {round(i * steps / (evaluations - 1)) for i in range(evaluations)} if pairs else set()

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step == 0:  # else it is in the checkpoint's history
            self.on_step_end(args, state, control)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in self.at:
            rewards = self.trainer.read(self.pairs)
            margins = rewards[0::2] - rewards[1::2]
            measured = {
                "held_out_loss": -logsigmoid(margins).mean().item(),
                "held_out_accuracy": ((margins.sign() + 1) / 2).mean().item(),
            }
            state.log_history.append({**measured, "step": state.global_step})


class StepCount(TrainerCallback):
    """Tells how far training is."""

    def __init__(self, steps: int) -> None:
        self.progress = Progress("training", steps, "steps")

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            accuracy = f", training accuracy {logs['accuracy']:.2f}" if "accuracy" in logs else ""
            note = f"loss {logs['loss']:.3f}{accuracy}"
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
