"""What the models of others share: loading as the config says, and texts as token ids."""

import hashlib
import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedTokenizerBase,
)

from rmtransfer.kit import manifest
from rmtransfer.kit.collector import uncollected
from rmtransfer.kit.errors import StudyError, in_one_line
from rmtransfer.models import chat
from rmtransfer.models.attention import prefer_packs
from rmtransfer.models.clock import day_of
from rmtransfer.models.device import TOKENS_IN_REDUCED_PRECISION, inference_dtype, pack_for_cpu, pick_device
from rmtransfer.models.families import give_classifier
from rmtransfer.models.options import Loading
from rmtransfer.models.packing import common_prefix
from rmtransfer.models.reading import check_ids, most_tokens
from rmtransfer.study.names import DATE
from rmtransfer.texts.corpus import Message
from rmtransfer.texts.items import Item

TokenIds = tuple[int, ...]
_MERGED = 4  # tokens of a word that may become others when the word goes on


class ModelSpec:
    """A model as the config names it: where it is and how it is loaded.

    Args:
        name: folder or hub id.
        revision: commit of a hub id.
        key: config key of the entry that names it, for messages.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        StudyError: quantisation is asked for without a GPU.
    """

    def __init__(self, name: str, revision: str | None, loading: Loading, key: str, device: str) -> None:
        self.loading, self.key, self.device = loading, key, pick_device(device)
        folder = Path(name).expanduser()
        self.folder = folder if folder.is_dir() else None
        self.name = str(folder) if self.folder else name
        self.revision = None if self.folder else revision
        if loading.quantization != "none" and self.device.type == "cpu":
            raise StudyError(f"{key}.quantization: {loading.quantization!r} needs a GPU; remove it, or run on one")
        self.dtype: torch.dtype = (
            inference_dtype(self.device) if loading.dtype == "auto" else getattr(torch, loading.dtype)
        )

    @cached_property
    def identity(self) -> str:
        """Which model it is: hub id and revision, or the content of the folder."""
        return manifest.identity(self.name, self.revision)

    def settings(self) -> dict[str, Any]:
        """How the weights are loaded and computed with, as far as that decides a reward."""
        return {
            **arithmetic(self.dtype),
            "attention": self.loading.attention,
            "quantization": self.loading.quantization,
            "trust_remote_code": self.loading.trust_remote_code,
        }

    @cached_property
    def config(self) -> Any:
        """The model's configuration."""
        return self._from(AutoConfig)

    @cached_property
    def longest(self) -> int | None:
        """The most tokens that the model reads, by its configuration."""
        return most_tokens(self.config)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's own tokenizer."""
        with uncollected():
            return self._from(AutoTokenizer)

    def load(self, factory: Any) -> Any:
        """The model in evaluation mode on the device.

        Args:
            factory: AutoModelForSequenceClassification or AutoModelForCausalLM.

        Raises:
            StudyError: it does not load, or weights that it needs are not in the checkpoint.
        """
        attention, quantization = self.loading.attention, self.loading.quantization
        arguments: dict[str, Any] = {
            "dtype": self.dtype,
            "attn_implementation": None
            if attention == "auto"
            else attention,  # SDPA where there is one, not in DeBERTa
            "output_loading_info": True,
        }
        if quantization != "none":
            arguments["quantization_config"] = BitsAndBytesConfig(
                load_in_8bit=quantization == "8bit",
                load_in_4bit=quantization == "4bit",
                bnb_4bit_compute_dtype=torch.bfloat16,
            )
            arguments["device_map"] = {"": self.device}
        if factory is AutoModelForSequenceClassification:
            give_classifier(self.config)
        model, found = self._from(factory, **arguments)
        if found["missing_keys"]:
            missing = sorted(found["missing_keys"])
            remedy = "name a checkpoint that holds all weights of this kind of model"
            if not self.loading.trust_remote_code and factory.__name__ in (
                getattr(self.config, "auto_map", None) or {}
            ):
                remedy = self._trust_it
            raise StudyError(
                f"{self.key}: {self.name!r} holds no {', '.join(missing[:3])}{' and others' * (len(missing) > 3)}, "
                f"which would be random numbers; {remedy}"
            )
        if self.dtype == torch.float32 and is_stock(model):
            pack_for_cpu(model if factory is AutoModelForCausalLM else model.base_model, self.device)
        return (model.to(self.device) if quantization == "none" else model).eval()

    def load_for_packs(self, factory: Any) -> Any:
        """The same, for forward passes alone: it computes packs if it can, unless the config names an attention.

        Args:
            factory: AutoModelForSequenceClassification or AutoModelForCausalLM.
        """
        model = self.load(factory)
        return prefer_packs(model) if self.loading.attention == "auto" else model

    @property
    def _trust_it(self) -> str:
        return f"it brings Python code of its own: read it, then set {self.key}.trust_remote_code: true"

    def _from(self, factory: Any, **arguments: Any) -> Any:
        if self.folder is not None:
            arguments["local_files_only"] = True
        try:
            return factory.from_pretrained(
                self.name, revision=self.revision, trust_remote_code=self.loading.trust_remote_code, **arguments
            )
        except Exception as problem:  # the loaders raise whatever the first missing or damaged file leads to
            said = in_one_line(problem)
            untrusted = "trust_remote_code" in str(problem) and not self.loading.trust_remote_code
            hint = f"; {self._trust_it}" if untrusted else ""
            raise StudyError(f"{self.key}: {self.name!r} does not load ({factory.__name__}): {said}{hint}") from problem


class Encoder:
    """Texts as token ids under a reward model's own tokenizer and chat template.

    Raises:
        StudyError: there is no tokenizer, or it has no chat template and the config names none.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.key, self.tokenizer = spec.key, spec.tokenizer()
        chat.settle_template(
            self.tokenizer,
            f"{self.key}: the tokenizer of {spec.name!r}",
            self.key,
            spec.loading.chat_template,
            spec.loading.date or DATE,
        )
        chat.probe_template(self.tokenizer, self.key)
        self.longest = spec.loading.max_length or spec.longest
        self.config = spec.config

    @property
    def pad(self) -> int:
        """What stands where there is no text. Attention masks hide it, so that any id will do."""
        pad = self.tokenizer.pad_token_id
        return 0 if pad is None else pad

    def settings(self) -> dict[str, Any]:
        """The chat template, the day that it is told if it asks, and the limit."""
        template = str(self.tokenizer.chat_template)
        day = day_of(template)
        return {
            "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(),
            **({"date": day} if day else {}),
            "max_length": self.longest,
        }

    def items(self, language: str, items: Sequence[Item]) -> list[list[TokenIds]]:
        """Token ids of each answer of each item, each with its prompt, as the chat template renders them.

        Raises:
            StudyError: the template refuses a row, or a text is longer than the model reads. Nothing is ever cut off.
        """
        encoded = [
            [tuple(self.encode([*item.prompt, *answer.messages], answer.origin(language))) for answer in item.answers]
            for item in items
        ]
        check_readable(texts_of(language, items, encoded), self)
        return encoded

    def encode(self, messages: Sequence[Message], what: str, *, add_generation_prompt: bool = False) -> list[int]:
        """Token ids of a conversation.

        Args:
            what: names it, for messages.

        Raises:
            StudyError: the chat template refuses it.
        """
        try:
            return chat.encode(self.tokenizer, messages, what, add_generation_prompt=add_generation_prompt)
        except chat.RefusalError as problem:
            raise StudyError(
                f"{self.key}: {problem}; remove the row from the benchmark, or name another template in "
                f"{self.key}.chat_template"
            ) from problem

    def prompt_length(self, prompt: Sequence[Message], sequence: Sequence[int], what: str) -> int:
        """How many ids of a rendered conversation are the prompt, its generation prompt included.

        The answer starts where both differ, as in TRL's DPOTrainer: a token that the tokenizer merges across the boundary,
        and whatever the template puts before an answer but not into the generation prompt, belong to the answer.

        Args:
            what: names it, for messages.

        Raises:
            StudyError: the template renders the prompt itself otherwise once an answer follows, or no answer.
        """
        shared = shared_with_prompt(self.encode, prompt, sequence, what, self.key)
        if shared == len(sequence):
            raise StudyError(
                f"{self.key}: the chat template renders no answer of {what}; name another template in "
                f"{self.key}.chat_template"
            )
        return shared


def shared_with_prompt(
    encode: Callable[..., list[int]], prompt: Sequence[Message], sequence: Sequence[int], what: str, key: str
) -> int:
    """How many ids of a rendered conversation are those of its prompt, see :meth:`Encoder.prompt_length`.

    Args:
        encode: messages, what they are and ``add_generation_prompt`` to token ids.
        key: config key of the model, for messages.

    Raises:
        StudyError: the template renders the prompt itself otherwise once an answer follows.
    """
    ids = encode(prompt, what, add_generation_prompt=True)
    shared = common_prefix(ids, sequence)
    # Without the generation prompt, and but for the end of its last word, the prompt must be there.
    if shared < len(ids) and shared < len(encode(prompt, what)) - _MERGED:
        raise StudyError(
            f"{key}: the chat template renders the prompt of {what} otherwise once an answer follows, so that it cannot be told "
            f"where the answer starts; name another template in {key}.chat_template"
        )
    return shared


@dataclass(frozen=True)
class PairIds:
    """Token ids of question and answer in one, and of each token which of the two it belongs to, where the model is told."""

    ids: TokenIds
    segments: TokenIds | None

    def __len__(self) -> int:
        return len(self.ids)


class PairEncoder:
    """Question and answer as the two texts of the tokenizer's own pair, as encoders trained on pairs are published.

    Raises:
        StudyError: there is no tokenizer, or it puts nothing between two texts.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.key, self.tokenizer = spec.key, spec.tokenizer()
        chat.check_pair(self.tokenizer, self.key)
        self.config, self.longest = spec.config, spec.loading.max_length or spec.longest

    def settings(self) -> dict[str, Any]:
        """That it is a pair, and the limit."""
        return {"pair": True, "max_length": self.longest}

    def items(self, language: str, items: Sequence[Item]) -> list[list[PairIds]]:
        """Each answer of each item with its question.

        Raises:
            StudyError: a pair is longer than the model reads.
        """
        encoded = [[self._pair(item.prompt, answer.messages) for answer in item.answers] for item in items]
        check_readable(texts_of(language, items, [[pair.ids for pair in these] for these in encoded]), self)
        return encoded

    def _pair(self, *sides: Sequence[Message]) -> PairIds:
        found = chat.encode_pair(self.tokenizer, *sides)
        segments = found.get("token_type_ids")
        return PairIds(tuple(found["input_ids"]), None if segments is None else tuple(segments))


def check_readable(texts: Sequence[tuple[TokenIds, str]], encoder: Encoder | PairEncoder) -> None:
    """Refuse texts that a model does not read whole. Nothing is ever cut off.

    Args:
        texts: token ids of each text, and which it is, for the message.

    Raises:
        StudyError: one is longer than the model reads, or holds a token that it does not know.
    """
    key = encoder.key
    remedy = f"remove the row from the benchmark, or raise {key}.max_length if the model does read more"
    chat.check_lengths(((len(ids), which) for ids, which in texts), encoder.longest, key, remedy)
    check_ids(texts, encoder.config, key, f"remove the row, or name another template in {key}.chat_template")


def texts_of(language: str, items: Sequence[Item], encoded: Sequence[Sequence[TokenIds]]) -> list[tuple[TokenIds, str]]:
    """Token ids of each answer with its prompt, and which it is, for messages."""
    return [
        (ids, f"{answer.origin(language)} with its {answer.name} answer")
        for item, these in zip(items, encoded, strict=True)
        for answer, ids in zip(item.answers, these, strict=True)
    ]


def is_stock(model: Any) -> bool:
    """Whether a model's code is that of transformers and not its own."""
    return type(model).__module__.startswith("transformers.")


def arithmetic(dtype: torch.dtype) -> dict[str, Any]:
    """What decides a number besides weights and text: precision, in less than fp32 what is computed together, and libraries."""
    together = {} if dtype == torch.float32 else {"tokens_per_batch": TOKENS_IN_REDUCED_PRECISION}
    return {
        "dtype": str(dtype).removeprefix("torch."),
        **together,
        "libraries": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
    }
