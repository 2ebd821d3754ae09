"""What the reward models of others share: a protocol, loading as the config says, and texts as token ids."""

import hashlib
import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import jinja2
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedTokenizerBase

from rmtransfer.kit import manifest
from rmtransfer.kit.errors import StudyError
from rmtransfer.models import chat
from rmtransfer.models.device import inference_dtype, pack_for_cpu
from rmtransfer.models.states import SIDES
from rmtransfer.texts.corpus import Message, Row

TokenIds = tuple[int, ...]
_SAID = 300  # characters of what another library says
_MERGED = 4  # tokens of a word that may become others when the word goes on


@dataclass(frozen=True)
class Scores:
    """Rewards of pairs in one language, in their order.

    Attributes:
        tokens_chosen, tokens_rejected: by the model's own tokenizer; None where it has none.
        judgements: what a judge said, ``id, order, verdict, text``; empty for every other kind.
        counts: what its judgements came to.
    """

    chosen: Sequence[float]
    rejected: Sequence[float]
    tokens_chosen: Sequence[int] | None = None
    tokens_rejected: Sequence[int] | None = None
    judgements: Sequence[Mapping[str, str | None]] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


class Scorer(Protocol):
    """One kind of reward model. No weights are loaded before the first call of ``score``."""

    def settings(self) -> dict[str, Any]:
        """Everything that decides a score, JSON-able, the same in every language."""

    def score(self, language: str, pairs: Sequence[Row]) -> Scores:
        """Score both answers of pairs."""


class Source:
    """A model as the config names it: where it is and how it is loaded.

    Args:
        spec: one entry of ``reward_models``.
        where: its key, for messages.
        path, revision: the keys of ``spec`` that name the model.

    Raises:
        StudyError: quantisation is asked for without a GPU.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        where: str,
        device: torch.device,
        path: str = "path",
        revision: str = "revision",
    ) -> None:
        self.spec, self.where, self.device = spec, where, device
        folder = Path(spec[path]).expanduser()
        self.folder = folder if folder.is_dir() else None
        self.name = str(folder) if self.folder else spec[path]
        self.revision = None if self.folder else spec.get(revision)
        self.trusted = spec.get("trust_remote_code", False)
        self.quantization = spec.get("quantization", "none")
        if self.quantization != "none" and device.type == "cpu":
            raise StudyError(f"{where}.quantization: {self.quantization!r} needs a GPU; remove it, or run on one")
        self.attention = spec.get("attention", "auto")  # auto: SDPA where there is one (not in DeBERTa)
        dtype = spec.get("dtype", "auto")
        self.dtype: torch.dtype = inference_dtype(device) if dtype == "auto" else getattr(torch, dtype)

    @cached_property
    def identity(self) -> str:
        """Which model it is: hub id and revision, or the content of the folder."""
        if self.folder is None:
            return f"{self.name}@{self.revision or 'main'}"
        if (self.folder / manifest.NAME).is_file():
            return f"sha256:{manifest.digest_folder(self.folder)}"
        # In full: checkpoints of one training run can agree in all but a head of a few kilobytes.
        files = sorted(p for p in self.folder.iterdir() if p.is_file() and not p.name.startswith("."))
        return f"sha256:{manifest.digest_of({p.name: manifest.digest_file(p) for p in files if p.name != 'README.md'})}"

    def settings(self) -> dict[str, Any]:
        """How the weights are loaded and computed with, as far as that decides a reward."""
        return {
            "dtype": str(self.dtype).removeprefix("torch."),
            "attention": self.attention,
            "quantization": self.quantization,
            "trust_remote_code": self.trusted,
            "libraries": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
        }

    @cached_property
    def config(self) -> Any:
        """The model's configuration."""
        return self._from(AutoConfig)

    @cached_property
    def longest(self) -> int | None:
        """The most tokens that the model reads, by its configuration."""
        return getattr(self.config.get_text_config(), "max_position_embeddings", None)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's own tokenizer."""
        return self._from(AutoTokenizer)

    def load(self, factory: Any) -> Any:
        """The model in evaluation mode on the device.

        Args:
            factory: AutoModelForSequenceClassification or AutoModelForCausalLM.

        Raises:
            StudyError: it does not load, or weights that it needs are not in the checkpoint.
        """
        arguments: dict[str, Any] = {
            "dtype": self.dtype,
            "attn_implementation": None if self.attention == "auto" else self.attention,
            "output_loading_info": True,
        }
        if self.quantization != "none":
            arguments["quantization_config"] = BitsAndBytesConfig(
                load_in_8bit=self.quantization == "8bit",
                load_in_4bit=self.quantization == "4bit",
                bnb_4bit_compute_dtype=torch.bfloat16,
            )
            arguments["device_map"] = {"": self.device}
        model, found = self._from(factory, **arguments)
        if found["missing_keys"]:
            missing = sorted(found["missing_keys"])
            remedy = "name a checkpoint that holds all weights of this kind of model"
            if not self.trusted and factory.__name__ in (getattr(self.config, "auto_map", None) or {}):
                remedy = self._trust_it
            raise StudyError(
                f"{self.where}: {self.name!r} holds no {', '.join(missing[:3])}{' and others' * (len(missing) > 3)}, "
                f"which would be random numbers; {remedy}"
            )
        if self.dtype == torch.float32 and is_stock(model):
            pack_for_cpu(model if factory is AutoModelForCausalLM else model.base_model, self.device)
        return (model.to(self.device) if self.quantization == "none" else model).eval()

    @property
    def _trust_it(self) -> str:
        return f"it brings Python code of its own: read it, then set {self.where}.trust_remote_code: true"

    def _from(self, factory: Any, **arguments: Any) -> Any:
        if self.folder is not None:
            arguments["local_files_only"] = True
        try:
            return factory.from_pretrained(
                self.name, revision=self.revision, trust_remote_code=self.trusted, **arguments
            )
        except Exception as problem:  # the loaders raise whatever the first missing or damaged file leads to
            said = " ".join((str(problem) or type(problem).__name__).split())[:_SAID]
            hint = f"; {self._trust_it}" if "trust_remote_code" in str(problem) and not self.trusted else ""
            raise StudyError(
                f"{self.where}: {self.name!r} does not load ({factory.__name__}): {said}{hint}"
            ) from problem


class Encoder:
    """Texts as token ids under a reward model's own tokenizer and chat template.

    Raises:
        StudyError: there is no tokenizer, or it has no chat template and the config names none.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.where = source, source.where
        self.tokenizer = source.tokenizer()
        if "chat_template" in source.spec:
            self.tokenizer.chat_template = source.spec["chat_template"]
        if not self.tokenizer.chat_template:
            raise StudyError(
                f"{self.where}: the tokenizer of {source.name!r} has no chat template; name a Jinja file in "
                f"{self.where}.chat_template"
            )
        self.longest = source.spec.get("max_length") or source.longest

    @property
    def pad(self) -> int:
        """What stands where there is no text. Attention masks hide it, so that any id will do."""
        pad = self.tokenizer.pad_token_id
        return 0 if pad is None else pad

    def settings(self) -> dict[str, Any]:
        """The chat template and the limit."""
        template = str(self.tokenizer.chat_template)
        return {
            "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(),
            "max_length": self.longest,
        }

    def pairs(self, language: str, pairs: Sequence[Row]) -> dict[str, list[TokenIds]]:
        """Token ids of both answers of each pair, each with its prompt, as the chat template renders them.

        Raises:
            StudyError: the template refuses a row, or a text is longer than the model reads. Nothing is ever cut off.
        """
        encoded: dict[str, list[TokenIds]] = {side: [] for side in SIDES}
        too_long: list[tuple[int, str, str]] = []
        for row in pairs:
            for side in SIDES:
                ids = self.encode([*row["prompt"], *row[side]], f"row {row['id']!r} in {language}")
                encoded[side].append(tuple(ids))
                if self.longest is not None and len(ids) > self.longest:
                    too_long.append((len(ids), side, row["id"]))
        if too_long:
            count, side, identity = max(too_long)
            more = f" (and {len(too_long) - 1} more texts are too long)" if len(too_long) > 1 else ""
            raise StudyError(
                f"{self.where}: row {identity!r} in {language} has {count:,} tokens with its {side} answer, more than the "
                f"{self.longest:,} that the model reads{more}; remove the row from the benchmark, or raise "
                f"{self.where}.max_length if the model does read more"
            )
        return encoded

    def encode(self, messages: Sequence[Message], what: str, *, add_generation_prompt: bool = False) -> list[int]:
        """Token ids of a conversation.

        Args:
            what: names it, for messages.

        Raises:
            StudyError: the chat template refuses it.
        """
        try:
            return chat.encode(self.tokenizer, messages, add_generation_prompt=add_generation_prompt)
        except jinja2.TemplateError as problem:
            raise StudyError(
                f"{self.where}: the chat template refuses {what}: {problem}; remove the row from the benchmark, or name "
                f"another template in {self.where}.chat_template"
            ) from problem

    def prompt_length(self, row: Row, language: str, sequence: Sequence[int]) -> int:
        """How many ids of a rendered conversation are the prompt, its generation prompt included.

        The answer starts where both differ, as in TRL's DPOTrainer: a token that the tokenizer merges across the boundary,
        and whatever the template puts before an answer but not into the generation prompt, belong to the answer.

        Raises:
            StudyError: the template renders the prompt itself otherwise once an answer follows, or no answer.
        """
        what = f"row {row['id']!r} in {language}"
        ids = self.encode(row["prompt"], what, add_generation_prompt=True)
        shared = _common_prefix(ids, sequence)
        # Without the generation prompt, and but for the end of its last word, the prompt must be there.
        if shared < len(ids) and shared < len(self.encode(row["prompt"], what)) - _MERGED:
            raise StudyError(
                f"{self.where}: the chat template renders the prompt of {what} otherwise once an answer follows, so that "
                f"it cannot be told where the answer starts; name another template in {self.where}.chat_template"
            )
        if shared == len(sequence):
            raise StudyError(
                f"{self.where}: the chat template renders no answer of {what}; name another template in "
                f"{self.where}.chat_template"
            )
        return shared


def is_stock(model: Any) -> bool:
    """Whether a model's code is that of transformers and not its own."""
    return type(model).__module__.startswith("transformers.")


def unique(sequences: Iterable[Any]) -> list[Any]:
    """Distinct sequences in order of appearance: a best-of-4 item repeats its chosen answer."""
    return list(dict.fromkeys(sequences))


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    pairs = zip(a, b, strict=False)
    return next((index for index, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
