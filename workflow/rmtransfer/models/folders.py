"""What keeps a folder from being a model, by the names and first bytes of its files. Imports nothing heavy."""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from rmtransfer.kit.damage import damage_in
from rmtransfer.kit.formats import LFS_POINTER

Use = Literal["weights", "training", "tokenizer", "ours"]
"""What a folder is for: a model that computes, a base that is trained, a tokenizer alone, or a model of this workflow"""

GGUF = b"GGUF"  # first bytes of such a file
_ADAPTER, _CONFIG, _OURS = "adapter_config.json", "config.json", "manifest.json"
_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WHOLE = ("model.safetensors", "pytorch_model.bin")
_OTHER_WEIGHTS = (
    ".safetensors",
    ".bin",
    ".h5",
    ".msgpack",
    ".onnx",
    ".pt",
    ".pth",
    ".ckpt",
    ".npz",
    ".nemo",
    ".distcp",
)
_POINTER_SIZE = 1024  # bytes; a pointer of Git LFS is smaller
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab", "tokenization_", "tekken.json")
_TOKENIZER_SUFFIXES = (".model", ".spm", ".tiktoken")
_WITHOUT_VOCABULARY = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")
# Methods of quantisation that transformers leaves to another package, and what that is to be imported as.
_NEEDED = {
    "aqlm": "aqlm",
    "auto-round": "auto_round",
    "awq": "gptqmodel",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed_tensors",
    "fp_quant": "fp_quant",
    "gptq": "gptqmodel",
    "hqq": "hqq",
    "quanto": "optimum",
    "quark": "quark",
    "spqr": "spqr_quant",
    "torchao": "torchao",
    "vptq": "vptq",
}


def problem_of(folder: Path, use: Use = "weights") -> str | None:
    """What keeps a folder from being what it is for, and what to do: one clause, to be read after its name; None if nothing does."""
    return next(_problems(folder, use), None)


def _problems(folder: Path, use: Use) -> Iterator[str]:
    files = {
        path.name: path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and not path.is_dir()
    }
    again = "download the folder again"
    for name, path in files.items():
        if not path.exists():
            yield f"holds {name}, which is a link to a file that is not there; {again}"
        elif path.stat().st_size < _POINTER_SIZE and path.read_bytes().startswith(LFS_POINTER):
            yield f"holds a Git LFS pointer instead of {name}; run `git lfs pull` in it"
    if use == "ours":
        if _OURS not in files:
            yield f"holds no {_OURS}, and so no reward model that this workflow has finished; another one is of kind: classifier"
        return  # whole, or an adapter beside its base
    config = _json(files.get(_CONFIG))
    if use != "tokenizer":
        yield from _no_model(folder, files, use)
        if config is None:
            yield f"holds a {_CONFIG} that is no JSON object; {again}"
        yield from _quantised(config or {}, use)
        yield from _no_weights(files, config or {})
        yield from _cut_off(files)
    yield from _no_tokenizer(files)


def _no_model(folder: Path, files: Mapping[str, Path], use: Use) -> Iterator[str]:
    whole = any(name in files for name in (*_WHOLE, *_INDICES))
    if _ADAPTER in files:
        base = (_json(files[_ADAPTER]) or {}).get("base_model_name_or_path") or "its base model, which it does not name"
        if whole:
            yield (
                f"holds whole weights and an adapter of {base}, which would be added to them; remove {_ADAPTER} if that is done, "
                "or merge it (PEFT's merge_and_unload)"
            )
        ours = f", or name {base} and have training.adapter train another" * (use == "training")
        yield (
            f"holds an adapter of {base} and no model; load it with PEFT, merge it into that (merge_and_unload), save model and "
            f"tokenizer and name their folder{ours}"
        )
    gguf = [name for name in files if name.endswith(".gguf")]
    if gguf and not whole:
        yield f"holds GGUF files alone ({gguf[0]}), which are llama.cpp's; name the model that they were made from"
    if _CONFIG not in files:
        inside = [*folder.glob(f"*/{_CONFIG}"), *folder.glob(f"snapshots/*/{_CONFIG}")]
        if inside:
            yield f"holds no model but folders of models; name one, such as {inside[0].parent}"
        if not files:
            yield "is a folder without files; put the model there, or name another"
        yield f"holds no {_CONFIG} and so no model in the format of transformers; name the folder that save_pretrained wrote"


def _quantised(config: Mapping[str, Any], use: Use) -> Iterator[str]:
    quantised = config.get("quantization_config")
    if not isinstance(quantised, dict):
        return
    method = quantised.get("quant_method", "bitsandbytes")
    if use == "training":
        yield f"is quantised ({method}), and its weights cannot be trained; name the model that it was made from"
    package = _NEEDED.get(method)
    if package is not None and importlib.util.find_spec(package) is None:
        yield (
            f"is quantised ({method}), for which Python needs the package {package}, which is not here; install that, or name the "
            "model that it was made from"
        )


def _no_weights(files: Mapping[str, Path], config: Mapping[str, Any]) -> Iterator[str]:
    for index in _INDICES:
        if index in files:
            named = (_json(files[index]) or {}).get("weight_map")
            wanted = sorted(set(named.values())) if isinstance(named, dict) else []
            missing = [name for name in wanted if name not in files]
            if not wanted:
                yield f"holds a {index} that names no file; download it again"
            elif missing:
                more = f" and {len(missing) - 1} more" * (len(missing) > 1)
                yield f"lacks {missing[0]}{more} of the {len(wanted)} files that {index} names; download what is missing"
            return
    if any(name in files for name in (*_WHOLE, config.get("transformers_weights"))) or "auto_map" in config:
        return
    if shards := [name for name in files if "-of-0" in name]:
        yield f"holds {shards[0]} and no index that says what is in which file; download that too, such as {_INDICES[0]}"
    others = [name for name in files if name.endswith(_OTHER_WEIGHTS)]
    instead = f" but {others[0]}" if others else ""
    yield (
        f"holds no weights that transformers reads ({' or '.join(_WHOLE)}){instead}; download them, or convert the model with "
        "save_pretrained"
    )


def _cut_off(files: Mapping[str, Path]) -> Iterator[str]:
    for name, path in files.items():
        if path.stat().st_size == 0 and name.endswith(_OTHER_WEIGHTS):
            yield f"holds {name}, which is empty; download it again"
        elif name.endswith(".safetensors") and damage_in(path):
            yield f"holds {name}, which is damaged or was cut off; download it again"


def _no_tokenizer(files: Mapping[str, Path]) -> Iterator[str]:
    settings = _json(files.get("tokenizer_config.json")) or {}
    if settings.get("tokenizer_class") in _WITHOUT_VOCABULARY or "auto_map" in settings:
        return
    if not any(name.startswith(_TOKENIZER_FILES) or name.endswith(_TOKENIZER_SUFFIXES) for name in files):
        only = " but its settings" if settings else ""
        yield (
            f"holds no tokenizer{only} ({_TOKENIZER_FILES[0]}, {_TOKENIZER_FILES[1]} or a vocabulary); copy there what belongs to "
            "the model that it was made from"
        )


def _json(path: Path | None) -> dict[str, Any] | None:
    """A JSON object out of a file; None if it is none."""
    try:
        found = json.loads(path.read_bytes()) if path else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
