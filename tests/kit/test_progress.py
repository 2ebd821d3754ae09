"""What a script prints on the terminal, and what it leaves in the log."""

import re
import subprocess
import sys

import pytest

from conftest import ROOT


def run(tmp_path, body, inputs=()):
    log = tmp_path / "job.log"
    code = (
        "from pathlib import Path\nfrom rmtransfer.kit.progress import start_job, Progress, report\n"
        f"start_job('train es', {str(log)!r}, Path({str(tmp_path)!r}), {list(map(str, inputs))!r})\n{body}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "workflow")}
    )
    return done, log.read_text(encoding="utf-8")


def test_progress_reaches_the_terminal_and_everything_the_log(tmp_path):
    done, log = run(
        tmp_path,
        "import os\nos.write(1, b'native\\n')\np = Progress('training', 2, 'steps')\np.advance(2, note='loss 1')",
    )
    assert "[train es] training: 2/2 steps" in done.stderr
    assert done.stderr.rstrip().endswith("loss 1")
    assert "native" not in done.stdout + done.stderr
    assert "native" in log
    assert "training: 2/2 steps" in log


@pytest.mark.parametrize(
    ("problem", "words", "traceback_on_terminal"),
    [
        (
            "from rmtransfer.kit.errors import StudyError\nraise StudyError('row 7 is empty')",
            "ERROR: row 7 is empty",
            False,
        ),
        ("raise MemoryError('no room')", "lower resources.tokens_per_batch", False),
        ("import no_such_module", "ERROR: ModuleNotFoundError: No module named 'no_such_module'", False),
    ],
)
def test_failures_are_one_message_on_the_terminal_and_a_traceback_in_the_log(
    tmp_path, problem, words, traceback_on_terminal
):
    done, log = run(tmp_path, problem)
    assert done.returncode == 1
    assert words in done.stderr
    assert ("Traceback" in done.stderr) is traceback_on_terminal
    assert "Traceback" in log


def test_the_log_ends_with_what_the_job_took(tmp_path):
    _, log = run(tmp_path, "import time\nbytearray(200_000_000)\ntime.sleep(0.3)")
    seconds, cpu, memory = map(float, re.search(r" took ([\d.]+) s, ([\d.]+) CPU s, (\d+) MB at most\n$", log).groups())
    assert 0.3 <= seconds < 30
    assert cpu > 0
    assert memory > 190  # a process starts with what its parent held
