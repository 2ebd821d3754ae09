"""Where the arithmetic happens: a GPU in bf16 where there is one, else the CPU in fp32."""

import torch
from torch.utils.mkldnn import MkldnnLinear


def pick_device(wanted: str = "auto") -> torch.device:
    """``auto``, ``cpu`` or ``cuda`` as a device."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def inference_dtype(device: torch.device) -> torch.dtype:
    """bf16 on a GPU, fp32 on a CPU (many CPUs emulate bf16, at a fraction of the speed)."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def pack_for_cpu(module: torch.nn.Module, device: torch.device) -> None:
    """Have oneDNN compute the linear layers below ``module``, in place, in fp32 as before.

    PyTorch gives fp32 products to MKL, which leaves the AVX-512 units of AMD processors idle: on a Zen 5 the forward pass
    of a 270M model is 1.8 times faster with oneDNN (``benchmarks/scoring_speed.py``). For inference on a CPU only; does
    nothing elsewhere.
    """
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return
    for name, child in module.named_children():
        if type(child) is torch.nn.Linear:
            setattr(module, name, MkldnnLinear(child, torch.float))
        else:
            pack_for_cpu(child, device)
