"""A finished study, parts of it taken away, through kills, full and read-only disks, files that were cut off, and a move.

The long way round, over all stages and with as many kills as one likes, is ``tests/faults.py``.
"""

import os
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from pathlib import Path

import pytest
import yaml
from test_workflow import CONFIG, jobs, run_study, snakemake

import faults
from conftest import warm_python
from faults import Kill
from rmtransfer.kit.running import Owner

pytestmark = pytest.mark.slow

RESULTS = Path("results") / CONFIG["study"]


@pytest.fixture
def study(shared, tmp_path) -> Path:
    """A finished study, elsewhere than where it was run."""
    folder = shutil.copytree(shared("finished", run_study), tmp_path / "study", symlinks=True)
    if not (folder / "profiles").exists():
        (folder / "profiles").symlink_to("workflow/profiles")
    (folder / "study.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


@pytest.fixture
def small_disk(study):
    """Give the study's results a file system of their own, with so many kB left."""
    results = study / "results"

    def mount(left: int) -> Path:
        results.rename(study / "before")
        results.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "none", results], capture_output=True).returncode:
            pytest.skip("needs the right to mount a file system")
        subprocess.run(["cp", "-a", f"{study}/before/.", results], check=True)
        used = shutil.disk_usage(results).used // 1024
        subprocess.run(["mount", "-o", f"remount,size={used + left}k", results], check=True)
        return results

    yield mount
    subprocess.run(["umount", "--lazy", results], capture_output=True)


def take_away(study: Path, *names: str) -> None:
    for name in names:
        path = study / RESULTS / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_kills_at_random_moments_lose_nothing_and_redo_nothing_that_was_finished(study):
    reference = faults.artifacts(study)
    of_spanish = [f"{folder}/llama/es" for folder in ("models", "scores", "hidden_states", "alignment/rewards")]
    take_away(study, *of_spanish, "tables", "figures", ".work")
    kills = [
        Kill("start", "Snakemake", 0.7),
        Kill("training", "job", 0.3),
        Kill("rewards", "Snakemake", 0.2),
        Kill("figures", "Snakemake", 0.1),
    ]
    outcome = faults.disturb(study, kills, warm_python(), defaultdict(lambda: 0.5))
    assert len(outcome.kills) >= 3  # the others' jobs had ended before
    assert faults.compare(study, reference) == []
    assert outcome.redone == []
    assert outcome.interrupted <= 2 * len(outcome.kills)  # as many as there are cores


def test_two_snakemakes_at_once(study):
    take_away(study, "figures")
    record = study / RESULTS / ".work/run"
    first = faults.Run(study, warm_python())
    locks = study / ".snakemake/locks"
    while not ((owner := Owner.read(record.read_text())) and locks.is_dir() and list(locks.iterdir())):
        assert first.process.poll() is None
        time.sleep(0.02)
    first.process.send_signal(signal.SIGSTOP)  # alive, and never done
    assert owner.pid == first.process.pid
    second = snakemake(study, CONFIG)
    assert second.returncode == 1
    assert f"another run is at work on it (process {owner.pid} on {owner.host}, since {owner.since})" in second.stdout
    assert "Traceback" not in second.stdout
    plan = snakemake(study, CONFIG, "plan")  # writes nothing
    assert plan.returncode == 0, plan.stdout
    assert record.read_text() == owner.written()
    first.process.kill()
    first.process.wait()
    assert list(locks.iterdir())
    dry = snakemake(study, CONFIG, "--dry-run").stdout
    assert f"a run was killed (process {owner.pid} on {owner.host}, since {owner.since}); the next one removes" in dry
    assert "cannot be locked" not in dry


def test_a_disk_that_is_full_or_read_only_is_one_message_and_the_same_command_goes_on(study, small_disk):
    reference = faults.artifacts(study)
    take_away(study, "figures/sample")
    results = small_disk(left=100)
    full = snakemake(study, CONFIG)
    assert full.returncode == 1
    assert "ERROR: the disk is full: of " in full.stdout
    assert f" MB on {results} 0.0 MB are free; make room there and give the same command again" in full.stdout
    assert "not a message we foresaw" not in full.stdout

    subprocess.run(["mount", "-o", "remount,ro", results], check=True)
    locked = snakemake(study, CONFIG)
    assert locked.returncode == 1
    assert "the file system is mounted read-only; mount it for writing and give the same command again" in locked.stdout
    assert "started" not in locked.stdout
    assert "Traceback" not in locked.stdout

    subprocess.run(["mount", "-o", "remount,rw,size=1g", results], check=True)
    done = snakemake(study, CONFIG)
    assert done.returncode == 0, done.stdout
    assert faults.compare(study, reference) == []


def test_a_file_that_was_cut_off_is_named_with_its_remedy_which_helps(study):
    reference = faults.artifacts(study)
    scores = RESULTS / "scores/llama/es/seed0/sample/es.parquet"
    states = RESULTS / "hidden_states/llama/en/seed0/sample/en.npz"
    for path in (scores, states):
        os.truncate(study / path, (study / path).stat().st_size // 2)
    take_away(study, "tables/sample", "tables/representation.csv")
    done = snakemake(study, CONFIG, "--keep-going")
    assert done.returncode == 1
    for path in (scores, states):
        assert f"ERROR: {path}: is damaged" in done.stdout
        assert f"remove {path} and give the same command again, which makes it again" in done.stdout
        (study / path).unlink()
    assert "not a message we foresaw" not in done.stdout
    done = snakemake(study, CONFIG)
    assert done.returncode == 0, done.stdout
    assert faults.compare(study, reference) == []


def test_a_study_that_was_moved_has_nothing_to_do_and_names_no_place(study, shared):
    assert jobs(study, CONFIG) == set()
    before = str(shared("finished", run_study)).encode()
    files = [path for path in (study / RESULTS).rglob("*") if path.is_file() and "logs" not in path.parts]
    assert len(files) > 100
    assert [path for path in files if before in path.read_bytes()] == []
