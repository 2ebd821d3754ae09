"""What is said of the GPUs of a job, and where there are none."""

import pytest
import torch

from rmtransfer.kit import devices
from rmtransfer.kit.errors import StudyError
from rmtransfer.models import gpus


def test_a_line_for_each_gpu_with_its_rate_in_bf16_and_its_free_memory(monkeypatch):
    measured = []
    monkeypatch.setattr(gpus, "product_rate", lambda *what: measured.append(what) or 312e12)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device.index}")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (70 * 2**30, 80 * 2**30))
    shown = gpus.describe_gpus().splitlines()
    assert "GPU 0: card 0, 312 TFLOP/s in bf16 (products of 8,192), 70.0 of 80.0 GiB free" in shown[0]
    assert "GPU 1: card 1" in shown[1]
    assert torch.__version__ in shown[2]
    assert measured == [(torch.device("cuda", number), torch.bfloat16, 8192) for number in (0, 1)]


def test_a_product_of_two_square_matrices_is_two_operations_for_each_of_size_cubed(monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(gpus.time, "perf_counter", lambda: float(next(ticks)))  # each product takes one second
    assert gpus.product_rate(torch.device("cpu"), torch.float32, 8) == 2 * 8**3


@pytest.mark.parametrize(
    ("files", "built_for", "words"),
    [
        (0, "13.0", ["no GPU here", "on the CPU in fp32", "workflow/profiles/slurm/config.yaml"]),
        (2, None, ["the driver shows 2 GPUs", "built without CUDA", "install its CUDA build"]),
        (2, "13.0", ["the driver shows 2 GPUs", "PyTorch for CUDA 13.0 can use none", "nvidia-smi"]),
    ],
)
def test_without_a_gpu_one_sentence_says_why_and_what_to_do(monkeypatch, tmp_path, files, built_for, words):
    for number in range(files):
        (tmp_path / f"nvidia{number}").touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "_DRIVER", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    with pytest.raises(StudyError) as said:
        gpus.describe_gpus()
    for word in words:
        assert word in str(said.value)
