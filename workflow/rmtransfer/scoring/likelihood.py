"""What a reward model must beat: the likelihood of the answer under a model that was never aligned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rmtransfer.models.options import Loading
from rmtransfer.scoring.reward_model import Resources, RewardModel, Rewards
from rmtransfer.study.options import Commit, Text
from rmtransfer.texts.items import distinct

if TYPE_CHECKING:
    from rmtransfer.texts.items import Item


class LikelihoodOptions(Loading):
    """log p(answer | prompt) under a causal language model."""

    kind: Literal["likelihood"]
    path: Text
    """hub id, folder, or the name of one of base_models"""
    revision: Commit | None = None
    """commit of the hub model"""
    length_normalized: bool = True
    """per token of the answer; false: the sum, which favours short answers"""


class Likelihood(RewardModel):
    """log p(answer | prompt) under a causal language model, per token of the answer or summed."""

    Options = LikelihoodOptions
    models: ClassVar = {"path": "revision"}
    baseline = True
    if_constant = "the model tells no two answers apart: its weights are not those of a language model"

    def __init__(self, options: LikelihoodOptions, key: str, resources: Resources) -> None:
        from rmtransfer.models.likelihoods import Likelihoods
        from rmtransfer.models.loading import Encoder, ModelSpec

        self.spec = ModelSpec(options.path, options.revision, options, key, resources.device)
        self.encoder = Encoder(self.spec)
        self.likelihoods = Likelihoods(self.spec, resources.tokens_per_batch, resources.trunk)
        self.normalized = options.length_normalized

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`."""
        return {
            "model": self.spec.identity,
            "length_normalized": self.normalized,
            **self.spec.settings(),
            **self.encoder.settings(),
        }

    def rewards(self, language: str, items: Sequence[Item]) -> Rewards:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`."""
        from rmtransfer.models.likelihoods import encoded_answers, rewards_of

        answers = encoded_answers(self.encoder, language, items)
        found = self.likelihoods.of(distinct(items, answers), f"scoring {language}")
        return Rewards(
            rewards_of(answers, found, self.normalized),
            tokens=[[len(ids) for _, ids in a] for a in answers],
            inputs=answers,
        )
