"""The environment that jobs inherit."""

from pathlib import Path

import pytest

from rmtransfer.kit import machine
from rmtransfer.kit.cores import CORES_OF_THE_RUN
from rmtransfer.kit.errors import StudyError


def test_the_library_comes_first_and_the_users_settings_stay(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "theirs")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setenv(CORES_OF_THE_RUN, "1")
    machine.prepare_environment(Path("workflow"), cores=2)
    assert machine.os.environ["PYTHONPATH"] == "workflow:theirs"
    assert machine.os.environ["TOKENIZERS_PARALLELISM"] == "true"
    assert "mmap_threshold" in machine.os.environ["GLIBC_TUNABLES"]


@pytest.mark.parametrize(
    ("wanted", "cores", "local", "gpus", "threads"),
    [
        ("auto", 8, True, 0, 4),
        ("auto", 1, True, 0, 1),
        ("auto", None, True, 0, 1),  # a report
        ("auto", 8, True, 1, 8),
        ("auto", 64, True, 8, 8),
        ("auto", 4, True, 8, 1),
        (3, 8, True, 0, 3),
        (3, None, False, 1, 3),
    ],
)
def test_a_heavy_jobs_share_of_the_machine(wanted, cores, local, gpus, threads):
    assert machine.threads_per_job(wanted, cores, local, gpus) == threads


def test_on_a_cluster_neither_the_cores_nor_the_gpus_of_the_head_node_count(monkeypatch):
    found = set()
    for there in ([], ["0"]):
        monkeypatch.setattr(machine, "visible_devices", lambda there=there: there)
        gpus = machine.gpus_for_jobs("auto", 8, local=False, limit=None)
        found |= {machine.threads_per_job("auto", cores, False, gpus) for cores in (None, 1, 64)}
    assert len(found) == 1
    assert found.pop() > 1


@pytest.mark.parametrize(
    ("device", "local", "gpus", "asks"),
    [
        ("auto", True, 0, False),
        ("auto", True, 2, True),
        ("auto", False, 0, True),  # the head node's are not counted
        ("cuda", True, 0, True),  # and is refused where there is none
        ("cpu", True, 2, False),
        ("cpu", False, 0, False),
    ],
)
def test_who_asks_for_a_gpu(device, local, gpus, asks):
    assert machine.computes_on_gpu(device, local, gpus) is asks


def test_the_gpus_that_jobs_share(monkeypatch):
    monkeypatch.setattr(machine, "visible_devices", lambda: ["0", "1", "2", "3"])
    assert machine.gpus_for_jobs("auto", 1, local=True, limit=None) == 4
    assert machine.gpus_for_jobs("cuda", 2, local=True, limit=2) == 2
    assert machine.gpus_for_jobs("cpu", 8, local=True, limit=None) == 0  # a training of 8 processes on the CPU
    with pytest.raises(StudyError, match=r"training\.processes: 3 .* shows 2; lower it to 2"):
        machine.gpus_for_jobs("auto", 3, local=True, limit=2)
    monkeypatch.setattr(machine, "visible_devices", list)
    assert machine.gpus_for_jobs("auto", 2, local=True, limit=2) == 0


def test_jobs_on_this_machine_know_the_cores_of_the_run(monkeypatch):
    monkeypatch.setenv(CORES_OF_THE_RUN, "3")  # of a run that sent this one
    machine.prepare_environment(Path("workflow"), cores=None)
    assert CORES_OF_THE_RUN not in machine.os.environ
    machine.prepare_environment(Path("workflow"), cores=8)
    assert machine.os.environ[CORES_OF_THE_RUN] == "8"


def test_the_memory_of_the_machine_is_what_a_container_may_have(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_LIMITS", (tmp_path / "none", tmp_path / "limit"))
    whole = machine.memory_here(gpu=False).bytes
    assert whole == machine.os.sysconf("SC_PAGE_SIZE") * machine.os.sysconf("SC_PHYS_PAGES")
    (tmp_path / "limit").write_text("max\n")
    assert machine.memory_here(gpu=False).bytes == whole
    (tmp_path / "limit").write_text("1000000\n")
    assert machine.memory_here(gpu=False).bytes == 1_000_000


def test_the_memory_of_a_gpu_is_that_of_the_smallest_visible_one(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.memory_here(gpu=True) is None  # no driver
    command = tmp_path / "nvidia-smi"
    command.write_text(
        "#!/bin/sh\ncase \"$*\" in *--id=GPU-1*) echo '40960, A100';; "
        "*) printf '81559, NVIDIA H100 80GB HBM3\\n24564, NVIDIA L4\\n';; esac\n"
    )
    command.chmod(0o755)
    monkeypatch.setattr(machine, "visible_devices", lambda: ["GPU-1"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.memory_here(gpu=True) == (24564 * 2**20, "NVIDIA L4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1")
    assert machine.memory_here(gpu=True) == (40960 * 2**20, "A100")
    command.write_text("#!/bin/sh\necho '[N/A], MIG'\n")
    assert machine.memory_here(gpu=True) is None
