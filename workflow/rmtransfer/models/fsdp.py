"""A model in parts (FSDP2): each process holds a part of every block's weights, gradients and optimiser state."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as checkpoints
from accelerate.data_loader import prepare_data_loader
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import distribute_tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from rmtransfer.kit.errors import StudyError
from rmtransfer.models import reward
from rmtransfer.models.families import blocks_of
from rmtransfer.models.steps import REMEDY, PackTrainer

_PARTS, _SCHEDULE = "parts", "scheduler.pt"  # in a checkpoint's folder
_TRAINED = StateDictOptions(ignore_frozen_params=True, strict=False)
_WHOLE = StateDictOptions(ignore_frozen_params=True, full_state_dict=True, cpu_offload=True)


def shard(whole: torch.nn.Module, classifier: PreTrainedModel, device: torch.device) -> None:
    """Share a model out between the processes, in fp32, as one process would have it.

    Args:
        whole: the classifier, or the adapted model around it.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    _, blocks = blocks_of(classifier.base_model)
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(whole, mesh=mesh)
    classifier._is_distributed_loading_by_transformers = True  # Trainer then neither moves nor wraps it


def trained_weights(whole: torch.nn.Module) -> dict[str, Any]:
    """What training has changed, by name, on the CPU of the first process; nothing in the others."""
    return get_model_state_dict(whole, options=_WHOLE)


class ShardedTrainer(PackTrainer):
    """Of several processes, each of which calls it in the same way.

    Checkpoints are written and read in parts as well, whatever the number of processes then.
    """

    model: Any
    optimizer: Any
    lr_scheduler: Any
    train_dataset: Any

    def get_train_dataloader(self) -> DataLoader:
        """All of a step's pairs for every process, in the order that one process has them in."""
        loader = DataLoader(
            self.train_dataset,
            batch_size=self.args.per_device_train_batch_size,
            sampler=self._get_train_sampler(),
            collate_fn=self.data_collator,
        )
        return prepare_data_loader(
            loader, self.args.device, num_processes=1, process_index=0, put_on_device=True, use_seedable_sampler=True
        )

    def make_room(self, model, pairs):
        """One process cannot do a step again alone."""
        raise StudyError(
            f"out of memory with training.processes: {self.args.world_size}; set training.gradient_checkpointing: true, "
            f"or {REMEDY}"
        )

    def read(self, pairs, *, head=True):
        """As in one process. What FSDP keeps whole for a backward pass, which does not come, is parted again."""
        found = super().read(pairs, head=head)
        self.model.reshard()
        return found

    def set_head(self, weights):
        """As in one process; each takes its part."""
        head: Any = reward.score_head(self.classifier).weight
        super().set_head(distribute_tensor(weights.to(self.args.device), head.device_mesh, head.placements))

    def save_model(self, output_dir=None, _internal_call=False):
        """Weights go with the optimiser."""

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        pass

    def _save_optimizer_and_scheduler(self, output_dir):
        checkpoints.save(self._parts(), checkpoint_id=Path(output_dir) / _PARTS)
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / _SCHEDULE)

    def _load_optimizer_and_scheduler(self, checkpoint):
        if checkpoint is None:
            return
        parts = self._parts()
        checkpoints.load(parts, checkpoint_id=Path(checkpoint) / _PARTS)
        set_state_dict(
            self.model,
            self.optimizer.optimizer,
            model_state_dict=parts["model"],
            optim_state_dict=parts["optimizer"],
            options=_TRAINED,
        )
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / _SCHEDULE, weights_only=True))

    def _parts(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.model, self.optimizer.optimizer, options=_TRAINED)
        return {"model": model, "optimizer": optimizer}
