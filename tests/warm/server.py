"""An interpreter with the heavy libraries loaded, forked for every job of a test study, and for whatever else asks for it.

Most of what a job of a tiny study costs is 2 to 5 seconds of imports, and of what Snakemake costs that plans one, half. A
fork is a process of its own, with the folder, environment and terminal of the process that asked for it, and ends with it;
of this repository nothing is loaded before.

Started as ``server.py <socket>``; ends when its standard input does.
"""

import array
import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import NoReturn

LIBRARIES = {
    "datasets": ["Dataset"],
    "matplotlib.pyplot": [],
    "pydantic": ["BaseModel", "Field"],  # by the configuration, in Snakemake
    "scipy.stats": [],
    "sklearn.decomposition": [],
    "snakemake.cli": [],
    "statsmodels.api": [],
    # loaded by name only
    "transformers": ["AutoModelForCausalLM", "AutoModelForSequenceClassification", "AutoTokenizer", "LlamaForCausalLM"],
    "trl": ["RewardConfig", "RewardTrainer"],
}


def load() -> None:
    """Load what jobs import from elsewhere."""
    for library, names in LIBRARIES.items():
        module = importlib.import_module(library)
        for name in names:
            getattr(module, name)


def serve(address: str) -> dict:
    """Wait for jobs; return each in a process of its own."""
    signal.signal(signal.SIGCHLD, forget)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(64)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([server, sys.stdin], [], [])
            if sys.stdin in ready:
                shutil.rmtree(Path(address).parent)
                sys.exit(0)
            client, _ = server.accept()
            if os.fork() == 0:
                break
            client.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, ((_, _, terminal),), _, _ = client.recvmsg(4, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    with client.makefile("rb") as stream:
        job = json.loads(stream.read(int.from_bytes(head, "big")))
    process = os.fork()
    if process != 0:
        supervise(process, client)
    client.close()
    for target, descriptor in enumerate(array.array("i", terminal)):
        os.dup2(descriptor, target)
        os.close(descriptor)
    return job


def forget(*_: object) -> None:
    """Let those that supervised and have ended go: nobody waits for them."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def supervise(process: int, client: socket.socket) -> NoReturn:
    """Tell the client how its job ended; where the client ends before, end the job."""
    ended = os.pidfd_open(process)
    ready, _, _ = select.select([ended, client], [], [])
    if ended not in ready:
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    with contextlib.suppress(OSError):
        client.sendall(bytes([os.waitstatus_to_exitcode(status) & 255]))
    os._exit(0)


def run(arguments: list[str]) -> int:
    """Do as ``python <script>`` and ``python -m <module> ...`` do; the exit status."""
    is_module = arguments[0] == "-m"
    sys.argv = arguments[1:] if is_module else arguments
    first = Path.cwd() if is_module else Path(arguments[0]).parent
    sys.path[:1] = [str(first), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    try:
        if is_module:
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


if __name__ == "__main__":
    load()
    gc.freeze()  # pages that nobody writes to stay shared
    job = serve(sys.argv[1])
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    status = run(job["arguments"])
    # Not as an interpreter ends: taking down all that is loaded takes a second.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
