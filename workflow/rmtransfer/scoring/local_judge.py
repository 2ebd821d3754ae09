"""A judge that runs on this machine."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from transformers import AutoModelForCausalLM

from rmtransfer.kit.errors import StudyError
from rmtransfer.models import chat
from rmtransfer.models.decoding import decode, decoding_batches
from rmtransfer.models.loading import Encoder, ModelSpec
from rmtransfer.scoring.judgements import Asked, Said
from rmtransfer.texts.corpus import Message


class LocalJudge:
    """A causal language model, decoded greedily.

    Args:
        system: system message before each prompt.
        longest_answer: the most tokens of a judgement.
    """

    def __init__(self, spec: ModelSpec, system: str | None, longest_answer: int, tokens_per_batch: int) -> None:
        self.spec, self.longest_answer, self.tokens_per_batch = spec, longest_answer, tokens_per_batch
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
            yield [
                Said(
                    prompts[i],
                    tokenizer.decode(ids, skip_special_tokens=True),
                    self.spec.name,
                    cut_off=len(ids) == self.longest_answer and not set(stops) & set(ids),
                )
                for i, ids in batch
            ]
