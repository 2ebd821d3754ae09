"""What a model takes, in bytes and in floating-point operations, from the sizes in its ``config.json``; nothing is loaded for it.

Training holds weights, gradients and Adam's two moments in fp32, 16 bytes a trained parameter (Rajbhandari et al., arXiv
1910.02054, section 3.1), moments of 8 bits instead of 32 in 2 of them (Dettmers et al., arXiv 2110.02861; those of embeddings
stay whole), and what the backward pass asks for. The latter is counted tensor by tensor, as in Korthikanti et al. (arXiv
2205.05198, section 4.1), for the blocks of today: a test compares it with what PyTorch keeps. The rest of a process is a
constant. An estimate: fragments of memory, code of a model's own and mixtures of experts are not in it.

A product of m x k and k x n numbers is 2mkn operations: 2 for each weight and token on the way forward, and on the way back 2
for the gradient of what enters it and 2 for that of its weights (Kaplan et al., arXiv 2001.08361, section 2.1). Attention
itself, a few per cent at the lengths of conversations, is left out.
"""

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rmtransfer.kit.machine import Memory, memory_here
from rmtransfer.kit.progress import report

_LIBRARIES = 0.9e9  # of a process with torch, transformers and trl
_CUDA = 1.5e9  # context, kernels, workspaces of the matrix products
_CUDA_ON_THE_HOST = 4e9  # libraries and context of a process that computes on a GPU
_FP32, _BF16 = 4, 2
_MOMENTS, _MOMENTS_8BIT = 8, 2
DECODING_FACTOR = 8  # models/decoding.py, which imports torch
_PREFETCHED = 2  # blocks that FSDP2 holds whole
LOGITS = 256 << 20  # bytes of a forward pass on a CPU, models/likelihoods.py, which imports torch
_LOGITS_HELD = 4  # times that they were seen in memory on a CPU: copies, and pieces that the allocator keeps


class Shape(NamedTuple):
    """Sizes of a decoder.

    Attributes:
        queries: heads times their dimension; ``keys`` likewise, and values are as wide.
        norms: of a block, over the hidden states.
        normed_heads: whether queries and keys are normalised too.
    """

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    queries: int
    keys: int
    norms: int
    normed_heads: bool

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Shape | None":
        """From a ``config.json``; None for a model that is built otherwise."""
        text = {**settings, **settings.get("text_config", {})}
        family = str(text.get("model_type", ""))
        if any("experts" in key for key in text) or isinstance(text.get("intermediate_size"), list):
            return None
        try:
            heads, hidden = text["num_attention_heads"], text["hidden_size"]
            width = text.get("head_dim") or hidden // heads
            return cls(
                vocabulary=text["vocab_size"],
                hidden=hidden,
                intermediate=text["intermediate_size"],
                layers=text["num_hidden_layers"],
                queries=heads * width,
                keys=(text.get("num_key_value_heads") or heads) * width,
                norms=4 if family.startswith(("gemma2", "gemma3")) else 2,
                normed_heads=family.startswith(("gemma3", "qwen3", "olmo2")),
            )
        except KeyError:
            return None

    @classmethod
    def of_folder(cls, folder: Path) -> "Shape | None":
        """From a model's folder."""
        path = folder / "config.json"
        return cls.of(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None

    @classmethod
    def like(cls, parameters: float) -> "Shape":
        """Of a model of which no more than its number of parameters is known, as if it were built like Llama 3.

        The layers of that family are 128 times as wide as there are layers, and have 13 times their width squared in
        parameters (Dubey et al., arXiv 2407.21783, table 3). Without a vocabulary, which is counted as layers.
        """
        hidden = max(1, round((parameters * 128 / 13) ** (1 / 3)))
        layers, keys = max(1, round(hidden / 128)), max(1, hidden // 4)
        intermediate = max(1, round((parameters / layers / hidden - 2 * (hidden + keys)) / 3))
        return cls(0, hidden, intermediate, layers, hidden, keys, norms=2, normed_heads=False)

    @property
    def embeddings(self) -> int:
        """Parameters of the embedding table; a head over the vocabulary is either the same or not loaded."""
        return self.vocabulary * self.hidden

    @property
    def block(self) -> int:
        """Parameters of the products of a block."""
        return self.hidden * (2 * self.queries + 2 * self.keys + 3 * self.intermediate)

    @property
    def parameters(self) -> int:
        """Of the whole decoder, without norms and biases."""
        return self.embeddings + self.layers * self.block

    @property
    def reading(self) -> float:
        """Operations of a forward pass, a token; :attr:`writing` with those of the scores of the vocabulary."""
        return 2.0 * self.layers * self.block

    @property
    def writing(self) -> float:
        """See :attr:`reading`."""
        return self.reading + 2.0 * self.embeddings

    def kept(self, autocast: bool) -> int:
        """Bytes a token and block that the backward pass asks for.

        Every norm keeps its input and what it makes of it, in fp32. Products keep what enters them: in fp32 several share one
        tensor; under autocast each of q, k, v, gate and up has a copy in bf16. The attention keeps q, k, v and its result, the
        activation function what enters and leaves it, and the product of both halves what both are.
        """
        h, q, k, i = self.hidden, self.queries, self.keys, self.intermediate
        heads = 8 * (q + k) if self.normed_heads else 0
        if autocast:
            return 8 * self.norms * h + 10 * h + 4 * (q + k) + 8 * i + heads
        # On a CPU the keys of a shared prefix are copied for each text, and results are put together.
        return 8 * self.norms * h + 8 * h + 12 * (q + k) + 16 * i + heads


class Recipe(NamedTuple):
    """What decides the memory of a training."""

    optimizer: str = "adamw"
    adapter: Mapping[str, Any] | None = None
    freeze_embeddings: bool = False
    frozen_layers: int = 0
    checkpointing: bool = False
    processes: int = 1

    @classmethod
    def of(cls, training: Mapping[str, Any]) -> "Recipe":
        """From the config's section ``training``."""
        named = {key: training[key] for key in ("optimizer", "freeze_embeddings", "frozen_layers", "processes")}
        return cls(**named, adapter=training.get("adapter"), checkpointing=training["gradient_checkpointing"] is True)

    def unchanged(self, shape: Shape) -> int:
        """Parameters that are in the trained model what they are in its base."""
        table = shape.embeddings if self.freeze_embeddings or self.adapter else 0
        return table + min(self.frozen_layers, shape.layers) * shape.block


def _open(shape: Shape, recipe: Recipe) -> tuple[int, int, int]:
    """Blocks that are not frozen, those that the backward pass goes through, and parameters of the table that are trained."""
    trainable = shape.layers - min(recipe.frozen_layers, shape.layers)
    table = 0 if recipe.freeze_embeddings or recipe.adapter else shape.embeddings
    # Blocks below which nothing is trained are not gone back through; frozen ones above a trained table are.
    return trainable, shape.layers if table else trainable, table


def training_operations(shape: Shape, recipe: Recipe) -> float:
    """Operations of a step, a token: forward, and back through what is trained or stands above it."""
    trainable, passed, _ = _open(shape, recipe)
    back = passed * (2 if recipe.checkpointing else 1) + (0 if recipe.adapter else trainable)
    return shape.reading + 2.0 * shape.block * back


def training_bytes(shape: Shape, recipe: Recipe, tokens: int, gpu: bool) -> float:
    """Peak of a process that trains.

    Args:
        tokens: of the largest pass: ``tokens_per_batch``, or the longest pair.
        gpu: in bf16 by autocast; else in fp32.
    """
    trainable, passed, table = _open(shape, recipe)
    blocks = trainable * shape.block
    if recipe.adapter:
        # A layer of m inputs and n outputs gets rank * (m + n) parameters.
        widths = 7 * shape.hidden + 2 * (shape.queries + shape.keys) + 3 * shape.intermediate
        blocks = trainable * recipe.adapter["rank"] * widths
    trained = blocks + table
    moments = _MOMENTS if recipe.optimizer == "adamw" else _MOMENTS_8BIT
    states: float = _FP32 * (shape.parameters + trained) + moments * blocks + _MOMENTS * table
    if recipe.processes > 1:
        states = states / recipe.processes + _FP32 * _PREFETCHED * shape.block
    # What nothing is trained below keeps nothing.
    per_token = passed * shape.kept(gpu)
    if recipe.checkpointing:
        per_token = passed * _FP32 * shape.hidden + shape.kept(gpu)
    copies = _BF16 * passed * shape.block if gpu else 0  # weights as autocast casts them, kept for the backward pass
    return states + copies + tokens * per_token + (_CUDA if gpu else _LIBRARIES)


def scoring_bytes(shape: Shape, tokens: int, gpu: bool) -> float:
    """Peak of a process that scores packs of ``tokens``: the weights, and what one block works on."""
    width = _BF16 if gpu else _FP32
    working = 4 * shape.hidden + 2 * shape.queries + 2 * shape.keys + 3 * shape.intermediate
    return width * (shape.parameters + tokens * working) + (_CUDA if gpu else _LIBRARIES)


def sampling_bytes(shape: Shape, tokens: int, answers: int, gpu: bool) -> float:
    """Peak of a process that samples: also keys and values of ``tokens``, and a distribution in fp32 for each answer."""
    width = _BF16 if gpu else _FP32
    cache = 2 * width * shape.layers * shape.keys * tokens
    logits = 2 * _FP32 * answers * shape.vocabulary
    return scoring_bytes(shape, answers, gpu) + _head_of_its_own(shape, gpu) + cache + logits


def likelihood_bytes(shape: Shape, tokens: int) -> float:
    """Peak of a process that scores packs of ``tokens`` by the likelihoods of their tokens, on a CPU."""
    logits = min(LOGITS, _FP32 * shape.vocabulary * tokens)
    return scoring_bytes(shape, tokens, gpu=False) + 2 * _head_of_its_own(shape, gpu=False) + _LOGITS_HELD * logits


def _head_of_its_own(shape: Shape, gpu: bool) -> int:
    """oneDNN's copy of the product that gives scores of the vocabulary, whose weights are the embedding table's."""
    return 0 if gpu else _FP32 * shape.embeddings


def host_bytes(weights: float, copies: int = 2, processes: int = 1) -> float:
    """Peak beside the GPU of a job that computes on one: weights pass through the machine's memory.

    Args:
        weights: bytes of a model.
        copies: of it at a time: what a file holds and what is made of it.
        processes: each with a copy of its own.
    """
    return processes * _CUDA_ON_THE_HOST + max(copies, processes + 1) * weights


def ways_to_fit(shape: Shape, recipe: Recipe, tokens: int, longest: int, gpu: bool, room: float) -> Iterator[str]:
    """Changes of the configuration after which a training fits, each with what it would take; the mildest first.

    Args:
        longest: tokens of the longest pair, which a pass holds at least.
        room: bytes.
    """
    changes = {
        f"resources.tokens_per_batch: {longest}": (recipe, min(tokens, longest)),
        "training.gradient_checkpointing: true": (recipe._replace(checkpointing=True), tokens),
        **{
            f"training.processes: {k}": (recipe._replace(processes=k), tokens)
            for k in (2, 4, 8)
            if gpu and k > recipe.processes and recipe.optimizer == "adamw"
        },
        **(
            {"training.optimizer: paged_adamw_8bit": (recipe._replace(optimizer="paged_adamw_8bit"), tokens)}
            if gpu and recipe.processes == 1
            else {}
        ),
        "training.adapter: {kind: lora}": (recipe._replace(adapter={"rank": 16}), tokens),
    }
    recomputing = "training.gradient_checkpointing: true"
    now = training_bytes(shape, recipe, tokens, gpu)
    for change, (other, size) in changes.items():
        need = training_bytes(shape, other, size, gpu)
        if need > room:
            need = training_bytes(shape, other._replace(checkpointing=True), longest, gpu)
            change = f"{change} with {recomputing}" if change != recomputing else change
        if need < now and need <= room:
            yield f"{change} ({need / 1e9:.1f} GB)"


def training_warning(
    shape: Shape,
    training: Mapping[str, Any],
    tokens: int,
    longest: int,
    gpu: bool,
    here: Memory | None,
) -> str:
    """What to say before a training that will not fit; empty if it will, or where nobody knows.

    Args:
        training: the config's section.
        tokens: ``resources.tokens_per_batch``.
        longest: tokens of the longest pair.
        here: the memory that there is.
    """
    recipe, tokens = Recipe.of(training), max(tokens, longest)
    need = training_bytes(shape, recipe, tokens, gpu)
    if here is None or need <= here.bytes:
        return ""
    said = f"training takes about {need / 1e9:.1f} GB, more than the {here.bytes / 1e9:.1f} GB of {here.name}"
    if training["gradient_checkpointing"] == "auto":
        again = training_bytes(shape, recipe._replace(checkpointing=True), longest, gpu)
        if again <= here.bytes:
            return (
                f"{said}; when memory runs out, it takes smaller passes and computes activations twice "
                f"({again / 1e9:.1f} GB). training.gradient_checkpointing: true does so from the start"
            )
    ways = ", or ".join(ways_to_fit(shape, recipe, tokens, longest, gpu, here.bytes))
    return f"{said}; what would fit: {ways}" if ways else f"{said}, and no setting makes it fit"


def warn_of_training(base: Path, training: Mapping[str, Any], tokens: int, longest: int, gpu: bool) -> None:
    """Report :func:`training_warning` of a base model's folder, before it is loaded."""
    shape = Shape.of_folder(base)
    said = shape and training_warning(shape, training, tokens, longest, gpu, memory_here(gpu))
    if said:
        report(f"WARNING: {said}")


def parameters_named(model: str) -> float | None:
    """How many parameters a model has by its name, such as Qwen2.5-3B-Instruct or gemma-3-270m; None if it says nothing."""
    found = re.search(r"(?<![\d.])(\d+(?:\.\d+)?)([bm])(?![a-z\d])", model, re.IGNORECASE)
    return float(found[1]) * {"b": 1e9, "m": 1e6}[found[2].lower()] if found else None


def parameters_of(folder: Path) -> int:
    """Elements of all tensors of a model, from its files' headers (https://huggingface.co/docs/safetensors)."""
    return sum(_elements(path) for path in folder.glob("*.safetensors"))


def _elements(path: Path) -> int:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
