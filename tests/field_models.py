"""Bases, reward models and lengths of kinds that the field has: kind and outcome. Part of tests/field.py."""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

import families as survey
from conftest import build_tokenizer, pair
from decoders import widen
from rmtransfer.kit.errors import StudyError
from rmtransfer.models.base import prepare_base_model
from scored import run
from trainings import RECIPE, train

INPUTS = Path(__file__).parent / "data/rm-tiny-models.json"
PAIRS = [pair(f"r{i}", "What is the capital?", "Paris. " * (i + 1), f"No {i}.") for i in range(6)]


def _save(folder: Path, config: Any, *added: str, kind: Any = AutoModelForCausalLM, template: Any = None) -> Path:
    """A random model with a tokenizer to which tokens were added, the last as its pad token."""
    torch.manual_seed(0)
    model = kind.from_config(config)
    widen(model)
    model.save_pretrained(folder)
    tokenizer = build_tokenizer("qwen")
    if added:
        tokenizer.add_special_tokens({"pad_token": added[-1]})
    if template is not None:
        tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def _base(folder: Path, family: str | None = None, config: Any = None, *added: str, **more: Any) -> str:
    sizes = {"max_position_embeddings": 512, "n_positions": 512, "hidden_size_per_layer_input": 8}
    config = config or survey.small(str(family), **sizes)
    if family is not None:
        config.get_text_config().vocab_size = 460
    _save(folder / "in", config, *added, **more)
    prepare_base_model({"path": "in"}, "m", folder, folder / "base")
    train(folder / "base", PAIRS, folder, recipe={**RECIPE, "epochs": 1})
    return "a reward model is trained"


def _classifier(folder: Path, config: Any, *added: str, **options: Any) -> str:
    config.num_labels = 1
    model = _save(folder / "rm", config, *added, kind=AutoModelForSequenceClassification)
    frame = run(folder, {"kind": "classifier", "path": str(model), **options}, {"en": PAIRS})["en"]
    return f"scored, first reward {frame['reward_chosen'][0]:.3f}"


def _implicit(folder: Path, config: Any, *added: str) -> str:
    policy, reference = _save(folder / "policy", config, *added), _save(folder / "reference", config)
    model = AutoModelForCausalLM.from_pretrained(policy)
    model.get_output_embeddings().weight.data += 0.1 * torch.randn_like(model.get_output_embeddings().weight)
    model.save_pretrained(policy)
    options = {"kind": "implicit", "policy": str(policy), "reference": str(reference)}
    return f"scored, first reward {run(folder, options, {'en': PAIRS})['en']['reward_chosen'][0]:.3f}"


def _inputs() -> Iterator[tuple[str, Callable[[Path], str]]]:
    held = len(build_tokenizer("qwen"))
    for entry in json.loads(INPUTS.read_text(encoding="utf-8")):
        # Where the table ends beside the tokenizer's tokens is the point of some.
        table = held if entry["config"]["vocab_size"] == 400 else held + 3
        config = {**entry["config"], "vocab_size": table, "max_position_embeddings": 512}
        make = lambda config=config: AutoConfig.for_model(**config)  # noqa: E731
        if entry["name"] == "policy-with-one-more-token":
            yield entry["name"], lambda folder, make=make: _implicit(folder, make(), "[PAD]")
            continue
        added = ("[PAD]",) if entry["name"] == "pad-beyond-table" else ()
        template = {"rag": "x", "tool_use": "y"} if entry["name"] == "named-templates" else None
        yield (
            f"{entry['name']}, as a base",
            lambda folder, make=make, added=added, template=template: _base(
                folder, None, make(), *added, template=template
            ),
        )
        if added:
            yield (
                f"{entry['name']}, as a classifier",
                lambda folder, make=make, added=added: _classifier(folder, make(), *added),
            )
    for family in (
        "gpt2",
        "opt",
        "cohere",
        "granite",
        "xglm",
        "gemma3n_text",
        "gemma3",
        "jamba",
        "roberta",
        "bart",
        "mamba",
    ):
        yield f"base of the family {family}", lambda folder, family=family: _base(folder, family)
    short = AutoConfig.for_model(**_SHORT, vocab_size=held + 3)
    yield "a base of 64 positions", lambda folder: _base(folder, None, short)
    yield "a classifier of 16 positions", lambda folder: _classifier(folder, AutoConfig.for_model(**{**_SHORT, "max_position_embeddings": 16}, vocab_size=held + 3))  # fmt: skip


_SHORT = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}


def cases() -> Iterator[tuple[str, str]]:
    """Kind of input, and what came of it."""
    survey.quiet()
    for kind, outcome in _inputs():
        with tempfile.TemporaryDirectory() as folder:
            try:
                yield kind, outcome(Path(folder))
            except StudyError as problem:
                yield kind, f"refused: {str(problem).replace(folder, '.')}"
            except Exception as problem:  # which is what should never be
                yield kind, f"CRASHED: {type(problem).__name__}: {problem}"
