"""Sequence classifiers: one scalar per conversation, or one of several outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rmtransfer.kit.errors import StudyError
from rmtransfer.models.options import Loading
from rmtransfer.scoring.reward_model import Resources, RewardModel, Rewards
from rmtransfer.study.options import Commit, Text
from rmtransfer.texts.items import distinct

if TYPE_CHECKING:
    import torch

    from rmtransfer.models.loading import Encoder, PairEncoder, PairIds, TokenIds
    from rmtransfer.texts.items import Item


class ClassifierOptions(Loading):
    """A sequence classifier."""

    kind: Literal["classifier"]
    path: Text
    """hub id, folder, or the name of one of base_models"""
    revision: Commit | None = None
    """commit of the hub model"""
    output: int | Text | None = None
    """which of several outputs is the reward: its number from 0, or the name of what the model returns"""
    pair: bool = False
    """give prompt and answer as the tokenizer's pair, with its special tokens and segments and without a chat template, as
    encoders such as DeBERTa are published"""


class Classifier(RewardModel):
    """A model that AutoModelForSequenceClassification loads, or ours of a family that it does not know.

    The linear head of transformers' own decoders is applied here, in fp32, to the state that their forward pass takes for
    a single text: that of the last token which is not the config's pad token. Any other head is asked by the model's own
    forward pass, in batches of equal length, so that nothing depends on how it treats padding.
    """

    Options = ClassifierOptions
    models: ClassVar = {"path": "revision"}
    reads_vocabulary = False
    if_constant = "the model tells no two answers apart: its weights are not those of a reward model, or output names the wrong one"

    def __init__(self, options: ClassifierOptions, key: str, resources: Resources) -> None:
        from rmtransfer.models.chat import check_special_tokens
        from rmtransfer.models.device import tokens_at_once
        from rmtransfer.models.loading import Encoder, ModelSpec, PairEncoder

        self.key, self.output, self.pair = key, options.output, options.pair
        self.spec = ModelSpec(options.path, options.revision, options, key, resources.device)
        self.tokens_per_batch = tokens_at_once(self.spec.dtype, resources.tokens_per_batch)
        self.encoder: Encoder | PairEncoder = PairEncoder(self.spec) if self.pair else Encoder(self.spec)
        if not self.pair:
            check_special_tokens(self.encoder.tokenizer, self.spec.config, key)

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`."""
        return {"model": self.spec.identity, "output": self.output, **self.spec.settings(), **self.encoder.settings()}

    @cached_property
    def model(self) -> Any:
        """The model, loaded at first use."""
        from transformers import AutoModelForSequenceClassification

        from rmtransfer.models.attention import prefer_packs

        model = self.spec.load(AutoModelForSequenceClassification)
        packs = self._reads_last_token(model) and self.spec.loading.attention == "auto"
        return prefer_packs(model) if packs else model

    def rewards(self, language: str, items: Sequence[Item]) -> Rewards:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`."""
        import torch

        from rmtransfer.kit.progress import Progress

        encoded: list[list[Any]] = [*self.encoder.items(language, items)]
        texts = distinct(items, encoded)
        progress = Progress(f"scoring {language}", sum(map(len, texts)), "tokens")
        compute = self._pooled if self._reads_last_token(self.model) else self._asked
        rewards: dict[Any, float] = {}
        with torch.inference_mode():
            for these, values in compute(texts):
                rewards.update(zip(these, self._one_of(values).float().tolist(), strict=True))
                progress.advance(sum(map(len, these)))
        return Rewards(
            [[rewards[s] for s in these] for these in encoded],
            tokens=[[*map(len, these)] for these in encoded],
            inputs=encoded,
        )

    def _reads_last_token(self, model: Any) -> bool:
        """Whether its rewards are a linear head's, on the state of the last token."""
        from torch.nn import Linear
        from transformers.modeling_layers import GenericForSequenceClassification

        from rmtransfer.models.loading import is_stock

        if isinstance(self.output, str) or self.pair or not is_stock(model):
            return False
        if not isinstance(model, GenericForSequenceClassification):
            return False
        return type(model.score) is Linear and model.score.bias is None  # else it is quantised

    def _pooled(self, texts: Sequence[TokenIds]) -> Iterator[tuple[list[TokenIds], torch.Tensor]]:
        """Some of the texts at a time, and what the linear head makes of them, [texts, outputs] in fp32."""
        from torch.nn.functional import linear

        from rmtransfer.models.packing import batches
        from rmtransfer.models.reward import last_token_states

        pad = self.model.config.get_text_config().pad_token_id
        read = [_up_to_last_other(text, pad) for text in texts]
        for batch in batches(self.model, read, self.tokens_per_batch):
            states = last_token_states(self.model, batch)
            yield [texts[i] for i in batch.members], linear(states.float(), self.model.score.weight.float())

    def _asked(self, texts: Sequence[Any]) -> Iterator[tuple[list[Any], torch.Tensor]]:
        """Texts of equal length at a time, and what the model's own forward pass makes of them, [texts, ...]."""
        import torch

        from rmtransfer.models.batching import length_batches

        name = self.output if isinstance(self.output, str) else "logits"
        lengths = [len(text) for text in texts]
        for batch in length_batches(lengths, self.tokens_per_batch):
            for part in _of_equal_length(batch, lengths):
                result = self.model(**self._inputs([texts[i] for i in part]))
                values = getattr(result, name, None)
                if not isinstance(values, torch.Tensor):
                    known = (
                        ", ".join(k for k, v in getattr(result, "__dict__", {}).items() if isinstance(v, torch.Tensor))
                        or "no tensor by name"
                    )
                    raise StudyError(f"{self.key}.output: the model returns no {name!r} but {known}; name one of them")
                yield [texts[i] for i in part], values

    def _inputs(self, texts: Sequence[TokenIds] | Sequence[PairIds]) -> dict[str, torch.Tensor]:
        """What the tokenizer's own call would give of texts of equal length."""
        import torch

        from rmtransfer.models.loading import PairIds

        ids = [text.ids if isinstance(text, PairIds) else text for text in texts]
        segments = [text.segments for text in texts if isinstance(text, PairIds) and text.segments is not None]
        columns = {"input_ids": ids, "attention_mask": [[1] * len(text) for text in ids], "token_type_ids": segments}
        return {name: torch.tensor(rows, device=self.spec.device) for name, rows in columns.items() if rows}

    def _one_of(self, outputs: torch.Tensor) -> torch.Tensor:
        outputs = outputs.reshape(len(outputs), -1)
        index, count = self.output, outputs.shape[1]
        if not isinstance(index, int):
            if count > 1:
                raise StudyError(
                    f"{self.key}.output: the model has {count} outputs; say which one is the reward, by its number from "
                    "0 or by the name of what the model returns"
                )
            index = 0
        if not 0 <= index < count:
            raise StudyError(f"{self.key}.output: {index} is none of the model's {count} outputs, from 0")
        return outputs[:, index]


def _up_to_last_other(text: TokenIds, pad: int | None) -> TokenIds:
    """``text`` without the pad tokens at its end: a causal model's states before them do not depend on them."""
    end = len(text)
    while end > 1 and text[end - 1] == pad:
        end -= 1
    return text[:end]


def _of_equal_length(batch: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for index in batch:
        groups.setdefault(lengths[index], []).append(index)
    return list(groups.values())
