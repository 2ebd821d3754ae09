"""Several batches at a time in threads of one process, for a CPU whose cores one product does not fill.

PyTorch lets go of the interpreter's lock within a product, so that threads of Python suffice. Each computes its products with
as many threads as the process would: a result is, to the last bit, what it is without workers.
"""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

import torch

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def in_workers(
    function: Callable[[Batch], Result], batches: Iterable[Batch], workers: Callable[[], int]
) -> Iterator[Result]:
    """``function`` of each batch, in the order of the batches.

    Args:
        function: runs in inference mode where the caller is in it; another mode or an autocast it must enter itself.
        batches: taken as they are needed, in the caller's thread.
        workers: how many batches may be computed at a time now; asked before each.

    Raises:
        Exception: what ``function`` raised; nothing more is begun then, and what was begun has ended.
    """
    mode = torch.inference_mode if torch.is_inference_mode_enabled() else contextlib.nullcontext

    def compute(batch: Batch) -> Result:
        with mode():
            return function(batch)

    remaining = iter(batches)
    begun: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(os.cpu_count(), "worker", torch.set_num_threads, (torch.get_num_threads(),)) as pool:
        while True:
            limit, running = workers(), [result for result in begun if not result.done()]
            # Finished results wait for those before them: not many, each may be as large as a batch.
            room = len(running) < limit and len(begun) < 2 * limit
            for batch in islice(remaining, int(room)):
                begun.append(pool.submit(compute, batch))
                break
            else:
                if not begun:
                    return
                if begun[0].done():
                    yield begun.popleft().result()
                else:
                    wait(running, return_when=FIRST_COMPLETED)
