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
    processes: dict[int, tuple[int, socket.socket]] = {}  # by a descriptor that tells when it has ended
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(64)
        print("ready", flush=True)
        while True:
            clients = {client: ended for ended, (_, client) in processes.items()}
            ready, _, _ = select.select([server, sys.stdin, *processes, *clients], [], [])
            for one in ready:
                if one in processes:
                    tell(one, *processes.pop(one))
                elif one in clients and clients[one] in processes:  # the client ends before its job
                    os.kill(processes[clients[one]][0], signal.SIGKILL)
                    tell(clients[one], *processes.pop(clients[one]))
            if sys.stdin in ready:
                shutil.rmtree(Path(address).parent)
                sys.exit(0)
            if server in ready:
                client, _ = server.accept()
                try:
                    job, terminal = receive(client)
                except (OSError, ValueError):  # the client has ended
                    client.close()
                    continue
                process = os.fork()
                if process == 0:
                    break
                for descriptor in terminal:
                    os.close(descriptor)
                processes[os.pidfd_open(process)] = (process, client)
    for other, (_, its_client) in processes.items():
        os.close(other)
        its_client.close()
    client.close()
    for target, descriptor in enumerate(terminal):
        os.dup2(descriptor, target)
        os.close(descriptor)
    return job


def receive(client: socket.socket) -> tuple[dict, array.array]:
    """A job, and its terminal."""
    terminal: array.array = array.array("i")
    head, ancillary, _, _ = client.recvmsg(4, socket.CMSG_SPACE(3 * terminal.itemsize))
    for _, _, sent in ancillary:
        terminal.frombytes(sent)
    with client.makefile("rb") as stream:
        return json.loads(stream.read(int.from_bytes(head, "big"))), terminal


def tell(ended: int, process: int, client: socket.socket) -> None:
    """Tell the client how its job ended."""
    os.close(ended)
    _, status = os.waitpid(process, 0)
    with client, contextlib.suppress(OSError):
        client.sendall(bytes([os.waitstatus_to_exitcode(status) & 255]))


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
