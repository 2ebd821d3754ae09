"""Engine ``llm``: any causal language model, asked with a prompt from the config."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from rmtransfer.kit.errors import StudyError
from rmtransfer.models import chat
from rmtransfer.models.batching import left_padded, length_batches
from rmtransfer.models.device import inference_dtype, pack_for_cpu, pick_device
from rmtransfer.study.languages import english_name
from rmtransfer.translation.local_model import CUT_OFF, model_identity
from rmtransfer.translation.store import Scope, Translation
from rmtransfer.translation.structure import Splitting

COMMENT = "comment instead of translation"
_CHARACTERS = 2_000
_GROWTH, _ROOM = 3, 30
_DECODING_FACTOR = 4
_PENALTY_WHEN_CAREFUL = 1.1


class CausalLM:
    """Translate line by line with a chat or plain language model, greedily.

    Args:
        options: the config's ``translation.llm``: ``model``, ``revision``, ``prompt`` (with ``{source_language}``,
            ``{target_language}`` and ``{text}``), ``chat`` (whether the prompt goes through the chat template).
        folder: where the model lies, if it is one of the study's base models.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        source: str,
        target: str,
        root: Path,
        *,
        tokens_per_batch: int,
        device: str = "auto",
        careful: bool = False,
    ) -> None:
        self.options, self.source, self.target, self.root = options, source, target, root
        self.tokens_per_batch, self.device, self.careful = tokens_per_batch, device, careful
        self.splitting = Splitting("sentence" if careful else "line", spans_inside=not careful, limit=_CHARACTERS)
        settings: dict[str, Any] = {
            "model": model_identity(options["model"], options.get("revision"), root),
            "prompt": options["prompt"],
            "chat": options["chat"],
        }
        if careful:
            settings |= {"unit": "sentence", "repetition_penalty": _PENALTY_WHEN_CAREFUL}
        self.scope = Scope("llm", settings, source, target)
        self.lock = f"llm.{source}-{target}"
        self._loaded: tuple[Any, Any] | None = None

    def safer(self) -> "CausalLM | None":
        """Sentence by sentence, around protected spans, with a penalty on repetition."""
        if self.careful:
            return None
        again = CausalLM(
            self.options,
            self.source,
            self.target,
            self.root,
            tokens_per_batch=self.tokens_per_batch,
            device=self.device,
            careful=True,
        )
        again._loaded = self._loaded
        return again

    @torch.inference_mode()
    def translate(self, prose: Sequence[str]) -> Iterator[dict[str, Translation]]:
        """See :class:`rmtransfer.translation.Engine`."""
        tokenizer, model = self._load()
        prompts = [self._prompt(tokenizer, text) for text in prose]
        limits = [_GROWTH * len(tokenizer(text, add_special_tokens=False)["input_ids"]) + _ROOM for text in prose]
        stops = {tokenizer.eos_token_id}
        if self.options["chat"]:
            stops.update(chat.turn_end(tokenizer)[0])
        else:  # a plain model goes on with the next line; prose has one
            stops.update(i for token, i in tokenizer.get_vocab().items() if "\n" in token or "\u010a" in token)
        lengths = [len(p) + limit for p, limit in zip(prompts, limits, strict=True)]
        for batch in length_batches(lengths, self.tokens_per_batch * _DECODING_FACTOR):
            ids, mask = left_padded([prompts[i] for i in batch], tokenizer.pad_token_id)
            generated = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                generation_config=GenerationConfig(
                    do_sample=False,
                    max_new_tokens=max(limits[i] for i in batch),
                    repetition_penalty=_PENALTY_WHEN_CAREFUL if self.careful else 1.0,
                    eos_token_id=sorted(stops),
                    pad_token_id=tokenizer.pad_token_id,
                    bos_token_id=tokenizer.bos_token_id,
                ),
            )[:, ids.shape[1] :].tolist()
            answers = {}
            for index, row in zip(batch, generated, strict=True):
                row = row[: limits[index]]  # neighbours in the batch may have run on for longer
                end = next((at for at, token in enumerate(row) if token in stops), None)
                text = tokenizer.decode(row[:end], skip_special_tokens=True).strip()
                flaws = []
                if end is None:
                    flaws.append(CUT_OFF)
                if "\n" in text:  # one line was asked for
                    flaws.append(COMMENT)
                answers[prose[index]] = Translation(text, tuple(flaws))
            yield answers

    def _prompt(self, tokenizer: Any, text: str) -> list[int]:
        prompt = self.options["prompt"]
        for name, value in (
            ("{source_language}", english_name(self.source)),
            ("{target_language}", english_name(self.target)),
            ("{text}", text),  # last: the text may hold any of the others
        ):
            prompt = prompt.replace(name, value)
        if self.options["chat"]:
            return chat.encode(tokenizer, [{"role": "user", "content": prompt}], add_generation_prompt=True)
        return list(tokenizer(prompt)["input_ids"])

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            name = self.options["model"]
            folder = self.root / Path(name).expanduser()
            source = str(folder) if folder.is_dir() else name
            revision = None if folder.is_dir() else self.options.get("revision")
            where = pick_device(self.device)
            try:
                tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
                model: Any = AutoModelForCausalLM.from_pretrained(
                    source, revision=revision, dtype=inference_dtype(where)
                )
            except Exception as problem:  # the loaders raise whatever the first missing or damaged file leads to
                first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
                raise StudyError(
                    f"translation.llm.model: {name!r} does not load as a causal language model: {first}"
                ) from problem
            if self.options["chat"] and not tokenizer.chat_template:
                raise StudyError(
                    f"translation.llm.chat: the tokenizer of {name!r} has no chat template; set chat: false for a plain model"
                )
            if tokenizer.pad_token_id is None:
                tokenizer.pad_token = tokenizer.eos_token
            pack_for_cpu(model, where)
            self._loaded = tokenizer, model.to(where).eval()
        return self._loaded
