"""The reward that a policy aligned by DPO implies: how much more likely it made an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from rmtransfer.kit.errors import StudyError
from rmtransfer.models.options import Loading
from rmtransfer.scoring.reward_model import Resources, RewardModel, Rewards
from rmtransfer.study.options import Commit, Text
from rmtransfer.texts.items import distinct

if TYPE_CHECKING:
    from rmtransfer.models.likelihoods import EncodedAnswer
    from rmtransfer.texts.items import Item


class ImplicitOptions(Loading):
    """The reward that a DPO policy implies."""

    kind: Literal["implicit"]
    policy: Text
    """model aligned by DPO: hub id or folder"""
    revision: Commit | None = None
    """commit of the policy, if it is on the hub"""
    reference: Text
    """the model that it was aligned from: hub id, folder, or the name of one of base_models"""
    reference_revision: Commit | None = None
    """commit of the reference model, if it is on the hub"""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """factor of the reward"""
    length_normalized: bool = False
    """divide by the number of the answer's tokens"""


class Implicit(RewardModel):
    """The reward that a policy aligned by DPO implies: beta * (log pi(y | x) - log pi_ref(y | x)).

    Rafailov et al., arXiv 2305.18290, section 4, without the term that depends on the prompt alone. With
    ``length_normalized`` the difference is divided by the number of the answer's tokens.

    Policy and reference read the same token ids of every text, which is checked.
    """

    Options = ImplicitOptions
    models: ClassVar = {"policy": "revision", "reference": "reference_revision"}
    if_constant = "the model tells no two answers apart: policy and reference are the same"

    def __init__(self, options: ImplicitOptions, key: str, resources: Resources) -> None:
        from rmtransfer.models.likelihoods import Likelihoods
        from rmtransfer.models.loading import Encoder, ModelSpec

        policy = ModelSpec(options.policy, options.revision, options, key, resources.device)
        reference = ModelSpec(options.reference, options.reference_revision, options, key, resources.device)
        self.options, self.encoder = options, Encoder(policy)
        self.key, self.tokenizer = f"{key}.reference", reference.tokenizer()
        self.tokenizer.chat_template = self.encoder.tokenizer.chat_template
        if options.max_length is None and reference.longest is not None:
            self.encoder.longest = min(reference.longest, self.encoder.longest or reference.longest)
        self.policy, self.reference = (
            Likelihoods(spec, resources.tokens_per_batch, resources.trunk) for spec in (policy, reference)
        )

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`."""
        return {
            "policy": self.policy.spec.identity,
            "reference": self.reference.spec.identity,
            "beta": self.options.beta,
            "length_normalized": self.options.length_normalized,
            **self.policy.spec.settings(),
            **self.encoder.settings(),
        }

    def rewards(self, language: str, items: Sequence[Item]) -> Rewards:
        """See :class:`rmtransfer.scoring.reward_model.RewardModel`."""
        from rmtransfer.models.likelihoods import encoded_answers, rewards_of

        answers = encoded_answers(self.encoder, language, items)
        self._check_reference(language, items, answers)
        these = distinct(items, answers)
        policy = self.policy.of(these, f"scoring {language} by the policy")
        reference = self.reference.of(these, f"scoring {language} by the reference model")
        implied = {a: self.options.beta * (policy[a] - reference[a]) for a in these}
        return Rewards(
            rewards_of(answers, implied, self.options.length_normalized),
            tokens=[[len(ids) for _, ids in a] for a in answers],
            inputs=answers,
        )

    def _check_reference(
        self, language: str, items: Sequence[Item], answers: Sequence[Sequence[EncodedAnswer]]
    ) -> None:
        """Whether the reference reads the same token ids. Tokens that no text holds may differ."""
        from rmtransfer.models import chat
        from rmtransfer.models.packing import common_prefix
        from rmtransfer.models.reading import check_ids

        remedy = "name the model that the policy was aligned from"
        for item, of_item in zip(items, answers, strict=True):
            for answer, (_, ids) in zip(item.answers, of_item, strict=True):
                row = answer.origin(language)
                theirs = chat.encode(self.tokenizer, [*item.prompt, *answer.messages])
                if list(ids) != theirs:
                    place = common_prefix(ids, theirs)
                    ours, other = (
                        self._token(t, these, place)
                        for t, these in ((self.encoder.tokenizer, ids), (self.tokenizer, theirs))
                    )
                    raise StudyError(
                        f"{self.key}: its tokenizer reads {row} otherwise than the policy's, which has {ours} as token {place + 1} "
                        f"where it has {other}; {remedy}"
                    )
                check_ids([(ids, row)], self.reference.spec.config, self.key, remedy)

    @staticmethod
    def _token(tokenizer: Any, ids: Sequence[int], place: int) -> str:
        return f"{tokenizer.convert_ids_to_tokens(ids[place])!r} ({ids[place]})" if place < len(ids) else "none"
