"""A judge that runs on this machine."""

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import Any

from transformers import AutoModelForCausalLM

from rmtransfer.kit.errors import StudyError
from rmtransfer.models import chat
from rmtransfer.models.decoding import decode, decoding_batches
from rmtransfer.models.loading import Encoder, ModelSpec
from rmtransfer.scoring.judgements import Asked, Said
from rmtransfer.scoring.verdicts import Reasoning
from rmtransfer.texts.corpus import Message

_TAIL = 16  # tokens of a prompt that hold what the chat template ends it with


class LocalJudge:
    """A causal language model, decoded greedily.

    Args:
        system: system message before each prompt.
        longest_answer: the most tokens of a judgement.
        reasoning: how its reasoning is told from its answer.
    """

    def __init__(
        self, spec: ModelSpec, system: str | None, longest_answer: int, tokens_per_batch: int, reasoning: Reasoning
    ) -> None:
        self.spec, self.longest_answer, self.tokens_per_batch = spec, longest_answer, tokens_per_batch
        self.reasoning, self.limited_by = reasoning, f"max_new_tokens ({longest_answer:,})"
        self.before: list[Message] = [{"role": "system", "content": system}] if system else []
        self.encoder = Encoder(spec)

    def settings(self) -> dict[str, Any]:
        """Everything that decides what it says, but for what it is asked."""
        return {
            "model": self.spec.identity,
            **self.spec.settings(),
            **self.encoder.settings(),
            "max_new_tokens": self.longest_answer,
            "temperature": 0,
        }

    @cached_property
    def model(self) -> Any:
        """The model, loaded at first use."""
        return self.spec.load(AutoModelForCausalLM)

    def ask(self, asked: Asked) -> Iterator[list[Said]]:
        """What the model says to prompts, in any order, a batch at a time.

        Raises:
            StudyError: the model does not read a prompt and the longest judgement; before anything is asked.
        """
        prompts = list(asked)
        encoded = [
            self.encoder.encode([*self.before, {"role": "user", "content": prompt}], row, add_generation_prompt=True)
            for prompt, row in asked.items()
        ]
        longest = max(range(len(prompts)), key=lambda i: len(encoded[i]))
        tokens, limit = len(encoded[longest]) + self.longest_answer, self.encoder.longest
        if limit is not None and tokens > limit:
            raise StudyError(
                f"{self.spec.key}: {asked[prompts[longest]]} takes {tokens:,} tokens with its judgement, more "
                f"than the {limit:,} that the model reads; lower {self.spec.key}.max_new_tokens, remove the row from "
                "the benchmark, or take a judge that reads more"
            )
        tokenizer: Any = self.encoder.tokenizer
        stops, _ = chat.turn_end(tokenizer)
        limits = [self.longest_answer] * len(prompts)
        for batch in decode(
            self.model,
            encoded,
            limits,
            decoding_batches(encoded, limits, self.tokens_per_batch),
            pad=self.encoder.pad,
            stops=stops,
            repetition_penalty=1.0,  # else that of the model's own generation config
            bos_token_id=tokenizer.bos_token_id,
        ):
            yield [self._said(prompts[i], encoded[i], ids, stops) for i, ids in batch]

    def _said(self, prompt: str, read: Sequence[int], ids: Sequence[int], stops: Collection[int]) -> Said:
        end = next((n for n, token in enumerate(ids) if token in stops), None)
        plain, marked = (self._text(ids[:end], skip_special_tokens=skip) for skip in (True, False))
        # Where its tags are special tokens, reasoning would read like an answer without them.
        text = marked if self.reasoning.among(marked) and not self.reasoning.among(plain) else plain
        before = self._text(read[-_TAIL:], skip_special_tokens=False)
        cut_off = end is None and len(ids) == self.longest_answer
        return Said(prompt, text, self.spec.name, not cut_off and not self.reasoning.unfinished(text, before))

    def _text(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        return str(self.encoder.tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))
