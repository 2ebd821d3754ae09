"""Log-probabilities of tokens under a large vocabulary, of which a few rows are there at a time.

A language model's head is its widest layer. Where it is frozen, what the gradient of a log-probability needs of it is known in
the forward pass already: d log p(t) / dh = W_t - sum_v p(v) W_v. So it is read twice instead of three times, and no logits are
kept for the way back (as in the fused losses of arXiv 2410.10989).
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from rmtransfer.models.attention import TESTED
from rmtransfer.models.device import product

_ROWS = 128  # tokens whose probabilities over the vocabulary are there at a time


def frozen_head(model: Any) -> torch.Tensor | None:
    """The weights [vocabulary, hidden] of a causal language model's head, if it is nothing but a frozen product in fp32 on a CPU."""
    if torch.is_autocast_enabled("cpu"):
        return None
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    plain = (
        config.model_type in TESTED
        and not getattr(config, "final_logit_softcapping", None)
        and isinstance(head, torch.nn.Linear)
        and head.bias is None
    )
    if not plain or head.weight.requires_grad or head.weight.dtype != torch.float32 or head.weight.device.type != "cpu":
        return None
    return head.weight


def log_probabilities(states: torch.Tensor, head: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """log p(token) [n] of tokens [n] that are read from states [n, hidden], with gradients for these.

    Args:
        head: see :func:`frozen_head`.
    """
    found: torch.Tensor = _LogProbabilities.apply(states, head, tokens)
    return found


class _LogProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, head: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        values, slopes = [], []
        for h, t in zip(states.split(_ROWS), tokens.split(_ROWS), strict=True):
            logits = product(h, head)
            highest = logits.amax(-1, keepdim=True)
            likely = logits.sub_(highest).gather(-1, t[:, None])
            total = logits.exp_().sum(-1, keepdim=True)
            values.append((likely - total.log()).squeeze(-1))
            if ctx.needs_input_grad[0]:
                slopes.append(head[t] - product(logits, head.t()) / total)
        if slopes:
            ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # type: ignore[override]
        (slopes,) = ctx.saved_tensors
        return gradient[:, None] * slopes, None, None
