"""Engine ``llm``: any causal language model, asked with a prompt from the config."""

import copy
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rmtransfer.kit import manifest
from rmtransfer.kit.errors import StudyError, first_line
from rmtransfer.models.options import check_model
from rmtransfer.study.languages import english_name
from rmtransfer.study.names import DATE
from rmtransfer.study.options import Commit, Day, Options, Text
from rmtransfer.translation import Machine
from rmtransfer.translation.quality import COMMENT, CUT_OFF
from rmtransfer.translation.store import Scope, Translation
from rmtransfer.translation.structure import Splitting

_CHARACTERS = 2_000
_GROWTH, _ROOM = 3, 30
_PENALTY_WHEN_CAREFUL = 1.1


class CausalLMOptions(Options):
    """A language model that is asked to translate."""

    model: Text
    """hub id, folder, or the name of one of base_models"""
    revision: Commit | None = None
    """commit of the hub model"""
    prompt: Text = (
        "Translate this from {source_language} into {target_language}. Answer with the translation only.\n"
        "{source_language}: {text}\n{target_language}:"
    )
    """what is asked; {text}, {source_language} and {target_language} are filled in"""
    chat: bool = True
    """whether the prompt goes through the model's chat template"""
    date: Day | None = None
    """the day that the chat template is told, if it writes one; chat.date if not given"""


class CausalLM:
    """Translate line by line with a chat or plain language model, greedily."""

    Options = CausalLMOptions
    paid = False
    runs_a_model = needs_section = True

    def __init__(self, options: CausalLMOptions, source: str, target: str, machine: Machine) -> None:
        self.options, self.source, self.target, self.machine = options, source, target, machine
        self.splitting = Splitting("line", spans_inside=True, limit=_CHARACTERS)
        self.lock = f"llm.{source}-{target}"
        self.careful = False
        self._loaded: tuple[Any, Any] | None = None

    @staticmethod
    def check(
        options: CausalLMOptions, target: str, study_bases: Collection[str], source: str, root: Path
    ) -> Iterator[str]:
        """See :class:`rmtransfer.translation.Engine`."""
        options = CausalLMOptions.model_validate(options)
        yield from check_model(options.model, options.revision, "translation.llm.model", "revision", study_bases, root)
        if "{text}" not in options.prompt:
            yield f"translation.llm.prompt: {options.prompt!r} does not hold {{text}}; put it where the text goes"

    @staticmethod
    def files(options: CausalLMOptions) -> list[str]:
        """See :class:`rmtransfer.translation.Engine`."""
        return []

    @property
    def scope(self) -> Scope:
        """See :class:`rmtransfer.translation.Engine`."""
        settings = {"model": self._identity, "prompt": self.options.prompt, "chat": self.options.chat}
        if self.options.date is not None:
            settings["date"] = self.options.date
        if self.careful:
            settings |= {"unit": "sentence", "repetition_penalty": _PENALTY_WHEN_CAREFUL}
        return Scope("llm", settings, self.source, self.target)

    @cached_property
    def _identity(self) -> str:
        return manifest.identity(self.options.model, self.options.revision, self.machine.root)

    def safer(self) -> "CausalLM | None":
        """Sentence by sentence, around protected spans, with a penalty on repetition."""
        if self.careful:
            return None
        again = copy.copy(self)
        again.careful = True
        again.splitting = Splitting("sentence", spans_inside=False, limit=_CHARACTERS)
        return again

    def translate(self, prose: Sequence[str]) -> Iterator[dict[str, Translation]]:
        """See :class:`rmtransfer.translation.Engine`."""
        from rmtransfer.models import chat
        from rmtransfer.models.decoding import decode, decoding_batches

        tokenizer, model = self._load()
        prompts = [self._prompt(tokenizer, text) for text in prose]
        limits = [_GROWTH * len(tokenizer(text, add_special_tokens=False)["input_ids"]) + _ROOM for text in prose]
        stops = {tokenizer.eos_token_id}
        if self.options.chat:
            stops.update(chat.turn_end(tokenizer)[0])
        else:  # a plain model goes on with the next line; prose has one
            stops.update(i for token, i in tokenizer.get_vocab().items() if "\n" in token or "\u010a" in token)
        for batch in decode(
            model,
            prompts,
            limits,
            decoding_batches(prompts, limits, self.machine.tokens_per_batch),
            pad=tokenizer.pad_token_id,
            stops=stops,
            repetition_penalty=_PENALTY_WHEN_CAREFUL if self.careful else 1.0,
            bos_token_id=tokenizer.bos_token_id,
        ):
            answers = {}
            for index, ids in batch:
                end = next((place for place, token in enumerate(ids) if token in stops), None)
                text = tokenizer.decode(ids[:end], skip_special_tokens=True).strip()
                flaws = []
                if end is None:
                    flaws.append(CUT_OFF)
                if "\n" in text:  # one line was asked for
                    flaws.append(COMMENT)
                answers[prose[index]] = Translation(text, tuple(flaws))
            yield answers

    def _prompt(self, tokenizer: Any, text: str) -> list[int]:
        from rmtransfer.models import chat

        prompt = self.options.prompt
        for name, value in (
            ("{source_language}", english_name(self.source)),
            ("{target_language}", english_name(self.target)),
            ("{text}", text),  # last: the text may hold any of the others
        ):
            prompt = prompt.replace(name, value)
        if self.options.chat:
            return chat.encode(tokenizer, [{"role": "user", "content": prompt}], add_generation_prompt=True)
        return list(tokenizer(prompt)["input_ids"])

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModelForCausalLM, AutoTokenizer

            from rmtransfer.models.device import inference_dtype, pack_for_cpu, pick_device

            name = self.options.model
            location, revision = manifest.located(name, self.options.revision, self.machine.root)
            device = pick_device(self.machine.device)
            try:
                tokenizer = AutoTokenizer.from_pretrained(location, revision=revision)
                model: Any = AutoModelForCausalLM.from_pretrained(
                    location, revision=revision, dtype=inference_dtype(device)
                )
            except Exception as problem:  # the loaders raise whatever the first missing or damaged file leads to
                raise StudyError(
                    f"translation.llm.model: {name!r} does not load as a causal language model: {first_line(problem)}"
                ) from problem
            if self.options.chat and not tokenizer.chat_template:
                raise StudyError(
                    f"translation.llm.chat: the tokenizer of {name!r} has no chat template; set chat: false for a plain model"
                )
            if self.options.chat:
                from rmtransfer.models import chat

                what = f"translation.llm.model: the tokenizer of {name!r}"
                chat.settle_template(tokenizer, what, None, date=self.options.date or DATE)
            if tokenizer.pad_token_id is None:
                tokenizer.pad_token = tokenizer.eos_token
            pack_for_cpu(model, device)
            self._loaded = tokenizer, model.to(device).eval()
        return self._loaded
