"""Rewards that are log-likelihoods: of an answer under a model, or against the model that it was aligned from."""

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.progress import Progress
from rmtransfer.models.batching import length_batches, right_padded
from rmtransfer.models.loading import Encoder, Scores, Source, TokenIds, unique
from rmtransfer.models.states import SIDES
from rmtransfer.texts.corpus import Row

_LOGITS = 2 << 30  # bytes of a forward pass
Answer = tuple[int, TokenIds]  # number of tokens of the prompt, token ids of prompt and answer


class Likelihoods:
    """Log-likelihoods of answers given their prompts under one causal language model."""

    def __init__(self, source: Source, tokens_per_batch: int) -> None:
        self.source, self.tokens_per_batch = source, tokens_per_batch

    @cached_property
    def model(self) -> Any:
        """The model, loaded at first use."""
        return self.source.load(AutoModelForCausalLM)

    @torch.inference_mode()
    def of(self, answers: Sequence[Answer], what: str) -> dict[Answer, float]:
        """Sum of log p(token | what stands before it) over the tokens after the prompt, in fp32.

        Args:
            what: is going on, for the progress report.
        """
        lengths = [len(ids) for _, ids in answers]
        one_token = self.model.config.get_text_config().vocab_size * self.source.dtype.itemsize
        budget = min(self.tokens_per_batch, _LOGITS // one_token)
        keeps = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        progress = Progress(what, sum(lengths), "tokens")
        sums: dict[Answer, float] = {}
        for batch in length_batches(lengths, budget):
            longest = lengths[batch[0]]
            # Padding on the right stands after every real token, which a causal model therefore never sees.
            ids, mask = right_padded([answers[i][1] for i in batch], 0)
            ids, mask = ids.to(self.source.device), mask.to(self.source.device)
            starts = [max(answers[i][0], 1) for i in batch]  # nothing stands before the first token
            # The vocabulary is the widest layer: spare it the prompts.
            kept = {"logits_to_keep": longest - min(starts) + 1} if keeps else {}
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False, **kept).logits
            skipped = longest - logits.shape[1]
            for row, (index, start) in enumerate(zip(batch, starts, strict=True)):
                end = lengths[index]
                predicted = logits[row, start - 1 - skipped : end - 1 - skipped].float().log_softmax(-1)
                sums[answers[index]] = predicted.gather(-1, ids[row, start:end, None]).sum().item()
            progress.advance(sum(lengths[i] for i in batch))
        return sums


def answers_of(encoder: Encoder, language: str, pairs: Sequence[Row]) -> dict[str, list[Answer]]:
    """Both answers of each pair with the length of their prompt."""
    encoded = encoder.pairs(language, pairs)
    return {
        side: [(encoder.prompt_length(row, language, ids), ids) for row, ids in zip(pairs, encoded[side], strict=True)]
        for side in SIDES
    }


def scores_of(answers: Mapping[str, Sequence[Answer]], rewards: Mapping[Answer, float], normalized: bool) -> Scores:
    """Rewards by pair; divided by the number of the answer's tokens if ``normalized``."""
    by_side = {
        side: [rewards[answer] / (len(answer[1]) - answer[0] if normalized else 1) for answer in these]
        for side, these in answers.items()
    }
    tokens = {side: [len(ids) for _, ids in these] for side, these in answers.items()}
    return Scores(by_side["chosen"], by_side["rejected"], tokens["chosen"], tokens["rejected"])


class Implicit:
    """The reward that a policy aligned by DPO implies: beta * (log pi(y | x) - log pi_ref(y | x)).

    Rafailov et al., arXiv 2305.18290, section 4, without the term that depends on the prompt alone. With
    ``length_normalized`` the difference is divided by the number of the answer's tokens.

    Raises:
        StudyError: policy and reference read different token ids.
    """

    def __init__(self, policy: Source, reference: Source, tokens_per_batch: int) -> None:
        spec = policy.spec
        self.encoder = Encoder(policy)
        self.beta, self.normalized = spec.get("beta", 0.1), spec.get("length_normalized", False)
        theirs = reference.tokenizer().get_vocab()
        strange = [token for token, index in self.encoder.tokenizer.get_vocab().items() if theirs.get(token) != index]
        if strange:
            raise StudyError(
                f"{policy.where}.reference: its tokenizer is not the policy's, {len(strange):,} tokens such as "
                f"{strange[0]!r} differ; name the model that the policy was aligned from"
            )
        if "max_length" not in spec and reference.longest is not None:
            self.encoder.longest = min(reference.longest, self.encoder.longest or reference.longest)
        self.policy, self.reference = Likelihoods(policy, tokens_per_batch), Likelihoods(reference, tokens_per_batch)

    def settings(self) -> dict[str, Any]:
        """See :class:`rmtransfer.models.loading.Scorer`."""
        return {
            "policy": self.policy.source.identity,
            "reference": self.reference.source.identity,
            "beta": self.beta,
            "length_normalized": self.normalized,
            **self.policy.source.settings(),
            **self.encoder.settings(),
        }

    def score(self, language: str, pairs: Sequence[Row]) -> Scores:
        """See :class:`rmtransfer.models.loading.Scorer`."""
        answers = answers_of(self.encoder, language, pairs)
        distinct = unique(answer for side in SIDES for answer in answers[side])
        policy = self.policy.of(distinct, f"scoring {language} by the policy")
        reference = self.reference.of(distinct, f"scoring {language} by the reference model")
        return scores_of(answers, {a: self.beta * (policy[a] - reference[a]) for a in distinct}, self.normalized)
