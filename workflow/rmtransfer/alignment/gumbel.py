"""Exact sampling whose noise belongs to the answer: what is drawn does not depend on what else is drawn beside it."""

import hashlib

import torch
from transformers import LogitsProcessor


class GumbelTopK(LogitsProcessor):
    """Turns greedy decoding into exact top-k and top-p sampling: argmax of logits / temperature + Gumbel noise over what is kept.

    The Gumbel-max trick (Gumbel 1954; Maddison et al., arXiv 1411.0030). The noise belongs to the row, not to the batch,
    so the answers do not depend on what they are sampled beside. Drawing k numbers also spares a multinomial draw over
    the whole vocabulary, which costs more than the forward pass where the vocabulary has 262,144 entries.

    Of the top k, top-p keeps the fewest most probable tokens whose probabilities sum to ``top_p`` at least (Holtzman et al.,
    arXiv 1904.09751); they are probabilities among the top k at this temperature, as in transformers and vLLM.

    Args:
        noise: [rows, steps, k] standard Gumbel numbers.
        prompt_length: padded length of the prompts.
        top_p: above 0, at most 1.
    """

    def __init__(self, noise: torch.Tensor, prompt_length: int, temperature: float, top_p: float = 1.0) -> None:
        self.noise, self.prompt_length, self.temperature, self.top_p = noise, prompt_length, temperature, top_p

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        step = input_ids.shape[1] - self.prompt_length
        values, tokens = scores.float().topk(min(self.noise.shape[-1], scores.shape[-1]))  # in descending order
        noise = self.noise[:, step, : values.shape[-1]].to(values.device)
        values = values / self.temperature
        if self.top_p < 1:
            shares = values.softmax(-1)
            before = shares.cumsum(-1) - shares  # of all that are more probable
            values = values.masked_fill(before >= self.top_p, -torch.inf)
        drawn = tokens.gather(1, (values + noise).argmax(-1, keepdim=True))
        return scores.scatter_(1, drawn, torch.inf)  # its argmax is all that is read, and a vocabulary is long


def seed_of(key: str) -> int:
    """A number of 63 bits that depends on ``key`` alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def gumbel_noise(key: str, steps: int, k: int) -> torch.Tensor:
    """Standard Gumbel numbers [steps, k] that depend on ``key`` alone."""
    uniform = torch.rand(steps, k, generator=torch.Generator().manual_seed(seed_of(key)), dtype=torch.float64)
    return -torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16))).float()
