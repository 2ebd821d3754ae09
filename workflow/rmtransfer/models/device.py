"""Where the arithmetic happens: a GPU in bf16 where there is one, else the CPU in fp32."""

from typing import Any

import torch
from torch.utils.mkldnn import MkldnnLinear
from transformers import PreTrainedModel

from rmtransfer.models.attention import TESTED

# Enough to fill a large GPU; a forward pass without gradients takes little memory beside the weights at that.
TOKENS_IN_REDUCED_PRECISION = 4096


def pick_device(wanted: str) -> torch.device:
    """``auto``, ``cpu`` or ``cuda`` as a device."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def inference_dtype(device: torch.device) -> torch.dtype:
    """bf16 on a GPU, fp32 on a CPU (many CPUs emulate bf16, at a fraction of the speed)."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def tokens_at_once(dtype: torch.dtype, tokens_per_batch: int) -> int:
    """Tokens of one forward pass that gives rewards or states, so that how much memory there is decides neither.

    Which kernel a product takes, and so how it rounds, depends on what is computed together. In fp32 that moves a reward by
    about 1e-6, and the budget is free. In bf16 it can move one by more than close answers differ (on one machine 2 of 60
    verdicts turned with the budget): there the number is the same everywhere, so that rewards depend on model, texts, libraries
    and kind of device alone. Not covered: texts that a model generates in less than fp32, which a budget may still change.
    """
    return tokens_per_batch if dtype == torch.float32 else TOKENS_IN_REDUCED_PRECISION


# PyTorch gives fp32 products to MKL, which on some AMD processors leaves the AVX-512 units idle; oneDNN uses them. On one Zen 5
# the 270M model's forward pass was 1.8 times faster so, its training step 1.9 times; on others both are alike.


def pack_for_cpu(module: torch.nn.Module, device: torch.device) -> None:
    """Have oneDNN compute the linear layers below ``module``, in place and in fp32 as before, for inference on a CPU.

    A model of transformers stays as it is where that fails: the code of some (Jamba's) reads their weights itself. Those that
    the tests compare are not tried.
    """
    layers = _linear_layers(module, device)
    for parent, name, child in layers:
        setattr(parent, name, MkldnnLinear(child, torch.float))
    try:
        if layers and isinstance(module, PreTrainedModel) and module.config.get_text_config().model_type not in TESTED:
            with torch.inference_mode():
                module(**module.dummy_inputs)
    except Exception:  # whatever comes of weights in oneDNN's own layout
        for parent, name, child in layers:
            setattr(parent, name, child)


def train_with_onednn(module: torch.nn.Module, device: torch.device) -> None:
    """The same for training: the layers keep their parameters, names and gradients."""
    for _, _, child in _linear_layers(module, device):
        if child.bias is None:
            child.__class__ = _OneDnnLinear


def _linear_layers(module: torch.nn.Module, device: torch.device) -> list[tuple[torch.nn.Module, str, torch.nn.Linear]]:
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return []
    return [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if type(child) is torch.nn.Linear and child.weight.numel()  # of some families a part is left empty
    ]


class _OneDnnLinear(torch.nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        # Of two dimensions, because a product of more is a view, in which no one may write (Gemma 3n does).
        return _OneDnnProduct.apply(input.flatten(0, -2), self.weight).unflatten(0, input.shape[:-1])


class _OneDnnProduct(torch.autograd.Function):
    """input @ weight.T, with both gradients as the products that they are."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        to_x = product(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        to_weight = product(gradient.flatten(0, -2).t(), x.flatten(0, -2).t()) if ctx.needs_input_grad[1] else None
        return to_x, to_weight


def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x [..., in] @ weight [out, in].T by oneDNN, which reads both where they are, transposed or not."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
