"""The environment that jobs inherit."""

from pathlib import Path

import pytest

from rmtransfer.kit import machine


def test_the_library_comes_first_and_the_users_settings_stay(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "theirs")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    machine.prepare_environment(Path("workflow"))
    assert machine.os.environ["PYTHONPATH"] == "workflow:theirs"
    assert machine.os.environ["TOKENIZERS_PARALLELISM"] == "true"
    assert "mmap_threshold" in machine.os.environ["GLIBC_TUNABLES"]


@pytest.mark.parametrize(
    ("wanted", "cores", "local", "gpu", "threads"),
    [
        ("auto", 8, True, False, 4),
        ("auto", 1, True, False, 1),
        ("auto", None, True, False, 1),  # a report
        ("auto", 8, True, True, 8),
        (3, 8, True, False, 3),
        (3, None, False, True, 3),
    ],
)
def test_a_heavy_jobs_share_of_the_machine(monkeypatch, wanted, cores, local, gpu, threads):
    monkeypatch.setattr(machine, "has_gpu", lambda: gpu)
    assert machine.threads_per_job(wanted, cores, local) == threads


def test_on_a_cluster_neither_the_cores_nor_the_gpu_of_the_head_node_count(monkeypatch):
    found = set()
    for gpu in (False, True):
        monkeypatch.setattr(machine, "has_gpu", lambda there=gpu: there)
        found |= {machine.threads_per_job("auto", cores, local=False) for cores in (None, 1, 64)}
    assert len(found) == 1
    assert found.pop() > 1
