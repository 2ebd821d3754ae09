"""What the reward models of others share: a protocol, loading as the config says, and texts as token ids."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoTokenizer, BitsAndBytesConfig, PreTrainedTokenizerBase

from rmtransfer import chat
from rmtransfer.corpus import Row
from rmtransfer.device import inference_dtype, pack_for_cpu
from rmtransfer.errors import StudyError
from rmtransfer.hidden_states import SIDES
from rmtransfer.translation.local_model import model_identity


@dataclass(frozen=True)
class Scores:
    """Rewards of pairs in one language, in their order.

    Attributes:
        tokens_chosen, tokens_rejected: by the model's own tokenizer; None where it has none.
        counts: what a judge's answers came to; empty for every other kind.
    """

    chosen: Sequence[float]
    rejected: Sequence[float]
    tokens_chosen: Sequence[int] | None = None
    tokens_rejected: Sequence[int] | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


class Scorer(Protocol):
    """One kind of reward model. Nothing is loaded before the first call of ``score``."""

    def settings(self) -> dict[str, Any]:
        """Everything that decides a score, JSON-able, the same in every language."""

    def score(self, language: str, pairs: Sequence[Row]) -> Scores:
        """Score both answers of pairs."""


class Encoder:
    """Texts as token ids under a reward model's own tokenizer and chat template.

    Raises:
        StudyError: there is no tokenizer, or it has no chat template and the config names none.
    """

    def __init__(self, spec: Mapping[str, Any], path: str, revision: str | None, where: str) -> None:
        self.where, self._longest = where, spec.get("max_length")
        try:
            self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                path, revision=revision, trust_remote_code=spec.get("trust_remote_code", False)
            )
        except Exception as problem:  # the loaders raise whatever the first missing or damaged file leads to
            raise StudyError(f"{where}: {path!r} has no tokenizer that loads: {first_line(problem)}") from problem
        if "chat_template" in spec:
            self.tokenizer.chat_template = spec["chat_template"]
        if not self.tokenizer.chat_template:
            raise StudyError(f"{where}: {path!r} has no chat template; name a Jinja file in {where}.chat_template")
        if self.tokenizer.pad_token_id is None:  # never read: attention masks say what is padding
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def settings(self) -> dict[str, Any]:
        """The template's digest and the limit that the config sets."""
        template = str(self.tokenizer.chat_template)
        return {"chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(), "max_length": self._longest}

    def pairs(self, language: str, pairs: Sequence[Row], config: Any) -> dict[str, list[tuple[int, ...]]]:
        """Token ids of both answers of each pair, each with its prompt, as the chat template renders them.

        Raises:
            StudyError: a text is longer than the model can read. Nothing is ever cut off.
        """
        encoded = {
            side: [tuple(chat.encode_answer(self.tokenizer, row["prompt"], row[side])) for row in pairs]
            for side in SIDES
        }
        limit = self._longest or getattr(config.get_text_config(), "max_position_embeddings", None)
        for side, sequences in encoded.items():
            for row, sequence in zip(pairs, sequences, strict=True):
                if limit is not None and len(sequence) > limit:
                    raise StudyError(
                        f"{self.where}: row {row['id']!r} in {language} has {len(sequence):,} tokens with its {side} "
                        f"answer, more than the {limit:,} that the model reads; remove the row from the benchmark, or "
                        f"raise {self.where}.max_length if the model reads more"
                    )
        return encoded

    def prompt_length(self, prompt: Sequence[Any], sequence: Sequence[int]) -> int:
        """How many ids of a rendered conversation are the prompt, its generation prompt included.

        Where the tokenizer merges across the boundary, the merged token belongs to the answer.
        """
        ids = chat.encode(self.tokenizer, prompt, add_generation_prompt=True)
        same = next((i for i, (a, b) in enumerate(zip(ids, sequence, strict=False)) if a != b), None)
        return min(len(ids), len(sequence)) if same is None else same


def loading(spec: Mapping[str, Any], device: torch.device, where: str) -> dict[str, Any]:
    """Keyword arguments of from_pretrained that the config decides.

    Raises:
        StudyError: quantisation is asked for without a GPU.
    """
    wanted = spec.get("quantization", "none")
    if wanted != "none" and device.type == "cpu":
        raise StudyError(f"{where}.quantization: {wanted!r} needs a GPU; remove it, or run on one")
    arguments: dict[str, Any] = {
        "dtype": _dtype(spec, device),
        "attn_implementation": spec.get("attention", "sdpa"),
        "trust_remote_code": spec.get("trust_remote_code", False),
    }
    if wanted != "none":
        arguments["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=wanted == "8bit", load_in_4bit=wanted == "4bit", bnb_4bit_compute_dtype=torch.bfloat16
        )
        arguments["device_map"] = {"": device}
    return arguments


def load(
    factory: Any, path: str, revision: str | None, spec: Mapping[str, Any], device: torch.device, where: str
) -> Any:
    """A model in evaluation mode on the device, loaded by ``factory.from_pretrained``.

    Raises:
        StudyError: it does not load.
    """
    try:
        model = factory.from_pretrained(path, revision=revision, **loading(spec, device, where))
    except StudyError:
        raise
    except Exception as problem:  # the loaders raise whatever the first missing or damaged file leads to
        hint = ""
        if "trust_remote_code" in str(problem) and not spec.get("trust_remote_code"):
            hint = f"; it brings Python code of its own: read it, then set {where}.trust_remote_code: true"
        raise StudyError(f"{where}: {path!r} does not load: {first_line(problem)}{hint}") from problem
    if model.dtype == torch.float32 and not spec.get("trust_remote_code"):  # whose code may read the weights
        pack_for_cpu(model.base_model, device)
    return (model.to(device) if spec.get("quantization", "none") == "none" else model).eval()


def loading_settings(spec: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """How the config has the weights loaded, as far as that decides a reward."""
    return {
        "kind": spec["kind"],
        "dtype": str(_dtype(spec, device)).removeprefix("torch."),
        "attention": spec.get("attention", "sdpa"),
        "quantization": spec.get("quantization", "none"),
    }


def identity(path: str, revision: str | None) -> str:
    """What a model is: hub id and revision, or the content of a folder."""
    return model_identity(path, revision, Path())


def unique(sequences: Iterable[tuple]) -> list[tuple]:
    """Distinct sequences in order of appearance: a best-of-4 item repeats its chosen answer."""
    return list(dict.fromkeys(sequences))


def first_line(problem: Exception) -> str:
    """What an exception says, in a line."""
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]


def _dtype(spec: Mapping[str, Any], device: torch.device) -> torch.dtype:
    name = spec.get("dtype", "auto")
    return inference_dtype(device) if name == "auto" else getattr(torch, name)
