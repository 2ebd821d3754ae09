"""On the path of a test study's processes: hands a job's script over to an interpreter that has its libraries loaded.

Every Python imports this at its start. Modules that ``WARM_MODULES`` names, and that are run as ``python -m``, are handed
over too; whatever else is no job goes on as ever.
"""

import os
import sys


def _hand_over(address: str, arguments: list[str]) -> None:
    """Have ``server.py`` run ``python <arguments>`` with this process's directory, environment and terminal; end as it ends."""
    import array
    import json
    import socket
    from pathlib import Path

    status = b""
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(address)
            job = json.dumps(
                {"folder": str(Path.cwd()), "environment": dict(os.environ), "arguments": arguments}
            ).encode()
            terminal = array.array("i", [0, 1, 2])
            server.sendmsg([len(job).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, terminal)])
            server.sendall(job)
            status = server.recv(1)
    finally:
        os._exit(status[0] if status else 1)


if "WARM_PYTHON" in os.environ:
    _arguments = [argument for argument in sys.orig_argv[1:] if argument != "-u"]
    _is_module = _arguments[:1] == ["-m"] and _arguments[1] in os.environ.get("WARM_MODULES", "").split()
    if _is_module or ".snakemake/scripts/" in "".join(_arguments[:1]):
        _hand_over(os.environ["WARM_PYTHON"], _arguments)
