"""What the GPUs of this job are and can do, in a minute: asked before a study is sent where they are."""

import socket
import statistics
import time

import torch

from rmtransfer.kit.devices import visible_devices
from rmtransfer.kit.errors import StudyError

_SIZE = 8192  # large enough that products, not their start, take the time
_WARM_UP, _REPEATS = 10, 20


def describe_gpus() -> str:
    """A line for each GPU that this process sees: name, bf16 products a second, free memory.

    Raises:
        StudyError: it sees none, or PyTorch cannot compute on what is there.
    """
    here = socket.gethostname()
    if not torch.cuda.is_available():
        raise StudyError(f"{here}: {_why_none(visible_devices(), torch.version.cuda)}")
    lines = []
    for number in range(torch.cuda.device_count()):
        device = torch.device("cuda", number)
        free, total = torch.cuda.mem_get_info(device)
        rate = product_rate(device, torch.bfloat16, _SIZE)
        lines.append(
            f"{here}, GPU {number}: {torch.cuda.get_device_name(device)}, {rate / 1e12:,.0f} TFLOP/s in bf16 "
            f"(products of {_SIZE:,}), {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        )
    return "\n".join([*lines, f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}"])


def product_rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """Floating-point operations a second of a product of two square matrices [size, size]: the median of some."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(_WARM_UP + _REPEATS):
        synchronize(device)
        began = time.perf_counter()
        a @ b
        synchronize(device)
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / statistics.median(seconds[_WARM_UP:])


def synchronize(device: torch.device | str) -> None:
    """Wait for what the device has been given to do."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def _why_none(shown: list[str], built_for: str | None) -> str:
    """Why PyTorch has no GPU, and what to do.

    Args:
        shown: the driver's GPUs that this process may use.
        built_for: the CUDA version of this PyTorch; None of one without.
    """
    if not shown:
        return (
            "no GPU here, so that jobs would compute on the CPU in fp32; on a cluster have the job ask for one (gpu or gres in "
            "workflow/profiles/slurm/config.yaml)"
        )
    if built_for is None:
        return f"the driver shows {len(shown)} GPUs, and this PyTorch ({torch.__version__}) is built without CUDA; install its CUDA build"
    return (
        f"the driver shows {len(shown)} GPUs, and PyTorch for CUDA {built_for} can use none; see that nvidia-smi names a driver for "
        "that version, and that CUDA_VISIBLE_DEVICES names GPUs that are there"
    )
