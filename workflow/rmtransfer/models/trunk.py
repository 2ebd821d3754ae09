"""The trunk of a model: its embeddings and first blocks where training leaves them as they are, computed once a text.

They are the same in a base model, in every reward model of it, with every seed and at every step; so is what they make of a
text, which therefore rests on disk between steps and jobs.
"""

import contextlib
import copy
import fcntl
import hashlib
import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import safetensors
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from rmtransfer.kit.files import write_once
from rmtransfer.kit.manifest import digest_of
from rmtransfer.kit.progress import report
from rmtransfer.models.attention import TESTED, evaluating
from rmtransfer.models.packing import PACKED, Batch, Group, group_of

_FINAL_NORMS = ("norm", "final_layernorm", "final_layer_norm", "ln_f")
_STATES = "states"  # name of the tensor in a file
_PROBE = [[2, 3, 5, 7, 11, 13], [2, 3, 5, 7, 17], [2, 19, 23, 29]]  # token ids that any vocabulary has


def build_trunk(model: PreTrainedModel, base: str, layers: int, store: Path, gigabytes: float) -> "Trunk | None":
    """The trunk of a model whose embeddings and first ``layers`` blocks are those of a base model.

    Args:
        model: with or without a head, on its device.
        base: :func:`rmtransfer.kit.manifest.digest_folder` of the base model.
        store: folder of what rests between jobs.
        gigabytes: the most disk that it may take.

    Returns:
        None where there is nothing to gain (no such blocks, no disk for them), where the model computes no packs, where its
        weights are in less than fp32 (a state would depend on what it happened to be computed with), or where it does not come
        apart at a block, which is reported.
    """
    decoder = model.base_model
    packed = model.config._attn_implementation == PACKED
    if layers == 0 or gigabytes == 0 or not packed or decoder.dtype != torch.float32:
        return None
    facts = [base, layers, str(decoder.dtype), decoder.device.type, torch.__version__, transformers.__version__]
    try:
        trunk = Trunk(model, layers, digest_of(facts), store, gigabytes)
        tested = model.config.get_text_config().model_type in TESTED
        difference = 0.0 if tested else _difference(decoder, trunk)
    except Exception as problem:  # whatever a model makes of having other layers than it was built with
        reason = str(problem)
    else:
        if difference <= 1e-5:
            return trunk
        reason = f"in two parts it computes other states than as a whole (by {difference:.1g})"
    report(f"computing the frozen layers of every text again: the model does not come apart at a block ({reason})")
    return None


class Trunk:
    """The two parts of a decoder, of which the lower one's states rest in a store.

    A group of texts is the unit: one file each, named by its tokens and by all else that decides its states. Jobs that meet
    over the same groups do not compute them twice.

    Attributes:
        upper: the blocks above and the final norm, to be called with :meth:`embeds`. Its modules are the model's own, so that
            gradients reach them.

    Args:
        model: with or without a head.
        layers: number of the lower part's blocks.
        identity: digest of everything that decides the lower part's states, but for autocast, which may come and go.
        store: folder of the files.
        gigabytes: what all files in it together may take.

    Raises:
        ValueError: the decoder is not made of ``layers`` and a norm.
    """

    def __init__(self, model: PreTrainedModel, layers: int, identity: str, store: Path, gigabytes: float) -> None:
        decoder: Any = model.base_model
        norm = next((name for name in _FINAL_NORMS if hasattr(decoder, name)), None)
        if norm is None or not hasattr(decoder, "layers"):
            raise ValueError("its blocks or its last norm have a name of their own")
        self.upper = _part(decoder, slice(layers, None))
        self._lower = _part(decoder, slice(layers), {norm: torch.nn.Identity()})
        self._identity, self._store, self._limit = identity, store, gigabytes * 1e9
        self._stored: int | None = None  # bytes

    @torch.no_grad()
    def embeds(self, batch: Batch) -> torch.Tensor:
        """What the lower part makes of a pack's tokens, [1, tokens, hidden]."""
        device = self._lower.device
        keys = [self._key(group, device) for group in batch.groups]
        missing = dict(zip(keys, batch.groups, strict=True))
        found: dict[str, torch.Tensor] = {}
        self._read(missing, found)
        while missing:
            with self._claim([*missing]) as claimed:
                ours = {key: missing[key] for key in claimed}
                self._read(ours, found)  # another job may have been at it until now
                if ours:
                    found |= self._compute(ours)
            missing = {key: group for key, group in missing.items() if key not in found}
            self._read(missing, found)
        return torch.cat([found[key].to(device) for key in keys])[None]

    def _compute(self, groups: dict[str, Group]) -> dict[str, torch.Tensor]:
        states = Batch([*groups.values()]).hidden(self._lower).split([group.tokens for group in groups.values()])
        found = dict(zip(groups, states, strict=True))
        for key, these in found.items():
            self._write(key, these)
        return found

    def _key(self, group: Group, device: torch.device) -> str:
        autocast = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
        key = hashlib.sha256(f"{self._identity} {autocast}".encode())
        for tokens, parent in group.nodes:
            key.update(array("q", [parent, len(tokens), *tokens]).tobytes())
        return key.hexdigest()

    def _path(self, key: str) -> Path:
        return self._store / key[:2] / f"{key}.safetensors"

    def _read(self, missing: dict[str, Group], found: dict[str, torch.Tensor]) -> None:
        """Move groups that rest in the store from ``missing`` to ``found``; a file that is damaged does not."""
        for key, group in [*missing.items()]:
            with contextlib.suppress(OSError, LookupError, safetensors.SafetensorError):
                states = load_file(self._path(key))[_STATES]
                if states.shape == (group.tokens, self._lower.config.hidden_size):
                    found[key] = states
                    del missing[key]

    def _write(self, key: str, states: torch.Tensor) -> None:
        if self._stored is None:
            self._stored = _bytes_in(self._store)
        if self._stored + states.nbytes > self._limit:
            self._stop_storing(f"{self._limit / 1e9:g} GB of states are in {self._store}")
            return
        try:
            write_once(self._path(key), lambda draft: save_file({_STATES: states}, draft))
        except (OSError, safetensors.SafetensorError) as problem:
            self._stop_storing(str(problem))
        else:
            self._stored += states.nbytes

    def _stop_storing(self, reason: str) -> None:
        if self._limit > 0:
            report(f"from here on states after the frozen layers are computed and not kept: {reason}")
        self._limit = 0

    @contextlib.contextmanager
    def _claim(self, keys: Sequence[str]) -> Iterator[Sequence[str]]:
        """Groups that no other job computes meanwhile: all that are free, or the first one as soon as it is.

        A job that waits holds none, so that no two wait for each other; the system gives back what a killed job held.
        """
        with contextlib.ExitStack() as until_then:
            claimed = keys
            # What is not kept helps nobody who waits for it; and a file system may have no locks.
            with contextlib.suppress(OSError):
                if self._limit > 0:
                    self._store.mkdir(parents=True, exist_ok=True)
                    file = until_then.enter_context((self._store / ".lock").open("ab"))
                    claimed = [key for key in keys if _locked(file, key)] or keys[:1]
                    fcntl.lockf(file, fcntl.LOCK_EX, 1, _place(claimed[0]))
            yield claimed


def _part(decoder: Any, layers: slice, others: dict[str, torch.nn.Module] | None = None) -> Any:
    """A decoder with some of another's layers: the same modules in another order, not copies of them."""
    part = copy.copy(decoder)
    # A copied module shares the dict of its children with the original.
    part._modules = {**decoder._modules, "layers": decoder.layers[layers], **(others or {})}
    part.config = copy.copy(decoder.config)
    part.config.num_hidden_layers = len(part.layers)
    if getattr(decoder.config, "layer_types", None):
        part.config.layer_types = decoder.config.layer_types[layers]
    return part


@torch.no_grad()
def _difference(decoder: Any, trunk: Trunk) -> float:
    """How far the parts together are from the whole on a few tokens, relative to the largest state."""
    pack = Batch([group_of(_PROBE[:2]), group_of(_PROBE[2:])])
    with evaluating(decoder):
        whole = pack.hidden(decoder)
        parts = pack.hidden(trunk.upper, pack.hidden(trunk._lower)[None])
    return ((parts - whole).abs().max() / whole.abs().max()).item()


def _locked(file: IO[bytes], key: str) -> bool:
    """Lock a group unless another process has; until the file is closed."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(key))
    except (BlockingIOError, PermissionError):  # which of the two is the system's choice
        return False
    return True


def _place(key: str) -> int:
    """Which byte of the lock file stands for a group."""
    return int(key[:15], 16)


def _bytes_in(folder: Path) -> int:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return sum(_bytes_in(Path(e.path)) if e.is_dir() else e.stat().st_size for e in entries)
    return 0
