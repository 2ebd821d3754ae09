"""Rewards that are log-likelihoods: of an answer under a model, or against the model that it was aligned from."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from rmtransfer.batching import length_batches, right_padded
from rmtransfer.corpus import Row
from rmtransfer.hidden_states import SIDES
from rmtransfer.progress import Progress
from rmtransfer.reward_models.model import Encoder, Scores, identity, load, loading_settings, unique

_LOGITS = 1 << 28  # of a forward pass: 1 GiB in fp32
_Answer = tuple[int, tuple[int, ...]]  # length of the prompt, token ids of prompt and answer


class Likelihoods:
    """Log-likelihoods of answers given their prompts under one causal language model."""

    def __init__(
        self,
        path: str,
        revision: str | None,
        spec: Mapping[str, Any],
        where: str,
        tokens_per_batch: int,
        device: torch.device,
    ) -> None:
        self.path, self.revision, self.spec, self.where = path, revision, spec, where
        self.tokens_per_batch, self.device = tokens_per_batch, device
        self._model: Any = None

    @property
    def model(self) -> Any:
        """The model, loaded at first use."""
        if self._model is None:
            self._model = load(AutoModelForCausalLM, self.path, self.revision, self.spec, self.device, self.where)
        return self._model

    @torch.inference_mode()
    def of(self, answers: Sequence[_Answer], what: str) -> dict[_Answer, float]:
        """Sum of log p(token | what stands before it) over the tokens after the prompt, in fp32."""
        model = self.model
        lengths = [len(ids) for _, ids in answers]
        budget = max(1, min(self.tokens_per_batch, _LOGITS // model.config.get_text_config().vocab_size))
        progress = Progress(what, sum(lengths), "tokens")
        sums: dict[_Answer, float] = {}
        for batch in length_batches(lengths, budget):
            # Padding on the right stands after every real token, which a causal model therefore never sees.
            ids, mask = right_padded([answers[i][1] for i in batch], 0)
            ids = ids.to(self.device)
            logits = model(input_ids=ids, attention_mask=mask.to(self.device), use_cache=False).logits
            for row, index in enumerate(batch):
                prompt, sequence = answers[index]
                start = max(prompt, 1)  # nothing stands before the first token
                scored = logits[row, start - 1 : len(sequence) - 1].float().log_softmax(-1)
                sums[answers[index]] = scored.gather(-1, ids[row, start : len(sequence), None]).sum().item()
            progress.advance(sum(lengths[i] for i in batch))
        return sums


def answers_of(encoder: Encoder, language: str, pairs: Sequence[Row], config: Any) -> dict[str, list[_Answer]]:
    """Both answers of each pair with the length of their prompt."""
    encoded = encoder.pairs(language, pairs, config)
    return {
        side: [(encoder.prompt_length(row["prompt"], ids), ids) for row, ids in zip(pairs, encoded[side], strict=True)]
        for side in SIDES
    }


def scores_of(answers: Mapping[str, Sequence[_Answer]], rewards: Mapping[_Answer, float], normalized: bool) -> Scores:
    """Rewards by pair; divided by the number of the answer's tokens if ``normalized``."""
    by_side = {
        side: [rewards[a] / (max(1, len(a[1]) - a[0]) if normalized else 1) for a in these]
        for side, these in answers.items()
    }
    tokens = {side: [len(ids) for _, ids in these] for side, these in answers.items()}
    return Scores(by_side["chosen"], by_side["rejected"], tokens["chosen"], tokens["rejected"])


class Implicit:
    """The reward that a policy aligned by DPO implies: beta * (log pi(y | x) - log pi_ref(y | x)).

    Rafailov et al., arXiv 2305.18290, section 4, without the term that depends on the prompt alone. With
    ``length_normalized`` the difference is divided by the number of the answer's tokens.
    """

    def __init__(self, spec: Mapping[str, Any], where: str, tokens_per_batch: int, device: torch.device) -> None:
        self.spec, self.device = spec, device
        self.encoder = Encoder(spec, spec["policy"], spec.get("revision"), where)
        self.policy = Likelihoods(spec["policy"], spec.get("revision"), spec, where, tokens_per_batch, device)
        self.reference = Likelihoods(
            spec["reference"], spec.get("reference_revision"), spec, where, tokens_per_batch, device
        )
        self.beta, self.normalized = spec.get("beta", 0.1), spec.get("length_normalized", False)

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.reward_models.model.Scorer`."""
        return {
            **loading_settings(self.spec, self.device),
            "policy": identity(self.policy.path, self.policy.revision),
            "reference": identity(self.reference.path, self.reference.revision),
            "beta": self.beta,
            "length_normalized": self.normalized,
            **self.encoder.settings(),
        }

    def score(self, language: str, pairs: Sequence[Row]) -> Scores:
        """See :class:`rmtransfer.reward_models.model.Scorer`."""
        answers = answers_of(self.encoder, language, pairs, self.policy.model.config)
        distinct = unique(answer for side in SIDES for answer in answers[side])
        policy = self.policy.of(distinct, f"scoring {language} by the policy")
        reference = self.reference.of(distinct, f"scoring {language} by the reference model")
        return scores_of(answers, {a: self.beta * (policy[a] - reference[a]) for a in distinct}, self.normalized)
