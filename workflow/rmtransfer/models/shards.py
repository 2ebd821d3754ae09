"""Weights in files that a base model and its reward models share: what training leaves as it is lies on disk once.

Every folder stays whole for every loader: files and index are those of Hugging Face's sharded format. Shards cannot be written
to, because one that several folders share would change in all of them; who saves over such a folder replaces its files.
"""

import filecmp
import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rmtransfer.kit.files import link, write_once
from rmtransfer.kit.progress import report

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_BLOCK = re.compile(r"(.*?)\.(\d+)\.")
_WORTH_SHARING = 1_000_000  # bytes of a file; small ones are edited in place by hand
_READ_ONLY = 0o444


def reshard(folder: Path) -> None:
    """Cut the weights that ``save_pretrained`` wrote where training can leave a part as it is.

    One file for each matrix outside the blocks, such as the embedding table, one for each block, one for the rest.
    """
    with _Weights(folder) as weights:
        shards: dict[tuple[bool, str, int], list[str]] = {}
        for name in sorted(weights.files):
            block = _BLOCK.match(name)
            if block:
                shards.setdefault((True, block[1], int(block[2])), []).append(name)
            else:
                shards.setdefault((False, name if len(weights.shape(name)) > 1 else "", 0), []).append(name)
        _replace(folder, weights, [names for _, names in sorted(shards.items())], {})


def share(folder: Path, base: Path) -> None:
    """Have a reward model that ``save_pretrained`` wrote share files with its base model.

    Of the base's shards those that hold nothing but tensors of the reward model, in the same numbers and dtype, become hard
    links, or copies on another file system; what remains is a shard of its own. So are large files that are equal, such as
    tokenizer.json. A folder without whole weights, such as an adapter's, shares those alone.

    Args:
        base: folder of the base model.
    """
    for path in sorted(folder.iterdir()):
        same = base / path.name
        large = path.suffix != ".safetensors" and path.stat().st_size >= _WORTH_SHARING
        if large and same.is_file() and filecmp.cmp(path, same, shallow=False):
            write_once(path, partial(link, same))
    if not any((folder / name).exists() for name in (_WHOLE, _INDEX)):
        return
    with _Weights(folder) as weights:
        try:
            with _Weights(base) as theirs:
                shared = {shard: names for shard, names in theirs.shards().items() if weights.hold(names, theirs)}
        except (OSError, ValueError, SafetensorError) as problem:  # a trained model is not lost for that
            report(f"shares no weights with {base}: {problem}")
            return
        taken = {name for names in shared.values() for name in names}
        own = [name for name in weights.files if name not in taken]
        if shared:
            _replace(folder, weights, [own], shared)


class _Weights:
    """The tensors of a folder, read where they are needed.

    Attributes:
        files: name of a tensor to the file that holds it.
    """

    def __init__(self, folder: Path) -> None:
        index = folder / _INDEX
        if (folder / _WHOLE).exists() or not index.exists():
            names = [folder / _WHOLE]
        else:
            names = sorted({folder / file for file in json.loads(index.read_text("utf-8"))["weight_map"].values()})
        self._open = {path: safe_open(path, framework="pt") for path in names}
        self.files = {name: path for path, file in self._open.items() for name in file.keys()}  # noqa: SIM118

    def __enter__(self) -> "_Weights":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.clear()

    def shards(self) -> dict[Path, list[str]]:
        """Every file with the names of its tensors."""
        return {path: list(file.keys()) for path, file in self._open.items()}

    def shape(self, name: str) -> Sequence[int]:
        return self._open[self.files[name]].get_slice(name).get_shape()

    def tensor(self, name: str) -> torch.Tensor:
        # A file that stays open keeps what was read of it in memory.
        with safe_open(self.files[name], framework="pt") as file:
            return file.get_tensor(name)

    def hold(self, names: Sequence[str], other: "_Weights") -> bool:
        """Whether the other's tensors are all in here, dtype included: someone would read a mixture in the wrong one."""
        return all(
            name in self.files
            and (ours := self.tensor(name)).dtype == (theirs := other.tensor(name)).dtype
            and torch.equal(ours, theirs)
            for name in names
        )


def _replace(
    folder: Path, weights: _Weights, own: Sequence[Sequence[str]], shared: Mapping[Path, Sequence[str]]
) -> None:
    """Write shards in place of a folder's weights. Until its manifest is there a folder is not finished."""
    shards = [*shared.items(), *((None, names) for names in own)]
    file_of: dict[str, str] = {}
    drafts = []
    for number, (source, names) in enumerate(shards, 1):
        path = folder / f"model-{number:05}-of-{len(shards):05}.safetensors"
        draft = path.with_name(f".{path.name}")
        if source is not None:
            link(source, draft)
        else:
            save_file({name: weights.tensor(name).contiguous() for name in names}, draft, {"format": "pt"})
            draft.chmod(_READ_ONLY)
        drafts.append((draft, path))
        file_of |= dict.fromkeys(names, path.name)
    sizes = [(weights.tensor(name).nbytes, weights.tensor(name).numel()) for name in file_of]
    totals = {"total_size": sum(size for size, _ in sizes), "total_parameters": sum(count for _, count in sizes)}
    index = {"metadata": totals, "weight_map": dict(sorted(file_of.items()))}
    for draft, path in drafts:
        os.replace(draft, path)
    write_once(folder / _INDEX, lambda draft: draft.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8"))
    for path in {*weights.files.values()} - {path for _, path in drafts}:
        path.unlink()
