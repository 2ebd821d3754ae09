"""One reward model fitted by several processes, one for each GPU, or several on the CPU.

``torchrun`` starts them; when one of them ends badly it ends the others, which would wait for it for ever.
"""

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import torch
from datasets import Dataset, load_from_disk

from rmtransfer.kit.devices import held
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.progress import report
from rmtransfer.models import chat
from rmtransfer.models.fit import Fit, fit

_JOB, _PAIRS, _REWARDS, _PROBLEM = "job.json", "pairs", "rewards.json", "problem.txt"
_REPORTED = re.compile(r"\d\d:\d\d:\d\d (.+)")  # a line of kit/progress.py
_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl
_LIBC = ctypes.CDLL(None)  # loaded before a process is forked, where it could wait for a lock that nobody lets go of


def fit_together(job: Fit, pairs: Dataset) -> list[float]:
    """:func:`rmtransfer.models.fit.fit` by ``job.processes`` processes, each with its own tokenizer.

    Raises:
        StudyError: one of them did.
        RuntimeError: one of them failed or was killed.
    """
    folder = Path(job.state) / "job"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / _JOB).write_text(json.dumps(job._asdict()), encoding="utf-8")
    pairs.save_to_disk(folder / _PAIRS)
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={job.processes}"]
    library = str(Path(__file__).parents[2])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [library, os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // job.processes)),
    }
    with subprocess.Popen(
        [sys.executable, "-m", *torchrun, "-m", __name__, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        pass_fds=held,
        preexec_fn=_end_with_parent,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said = _REPORTED.fullmatch(line.rstrip("\n"))
            report(said[1]) if said else print(line, end="")
    if (folder / _PROBLEM).is_file():
        raise StudyError((folder / _PROBLEM).read_text(encoding="utf-8"))
    if process.returncode:
        raise RuntimeError(f"one of the {job.processes} processes that train together failed or was killed")
    return json.loads((folder / _REWARDS).read_text(encoding="utf-8"))


def _end_with_parent() -> None:
    """Ask for a signal when the process that started this one is gone, however it ended."""
    if sys.platform == "linux":
        _LIBC.prctl(_END_WITH_PARENT, signal.SIGTERM)


def main(folder: Path) -> int:
    """What each of the processes runs."""
    if os.environ["RANK"] != "0":
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open until the process ends)
    job = Fit(**json.loads((folder / _JOB).read_text(encoding="utf-8")))
    try:
        rewards = fit(job, chat.load_tokenizer(Path(job.base)), load_from_disk(folder / _PAIRS))
    except StudyError as problem:
        (folder / _PROBLEM).write_text(str(problem), encoding="utf-8")
        return 1
    if rewards is not None:
        (folder / _REWARDS).write_text(json.dumps(rewards), encoding="utf-8")
    torch.distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
