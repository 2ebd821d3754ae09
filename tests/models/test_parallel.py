"""Workers change when a batch is computed, and nothing else."""

import threading
import time

import pytest
import torch
from torch.utils.mkldnn import MkldnnLinear

from rmtransfer.models.parallel import in_workers


@pytest.mark.parametrize("products", ["mkl", "onednn"])
def test_results_are_equal_to_the_last_bit_however_many_workers_compute(products):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(640, 1024), torch.nn.Linear(1024, 640)]
    if products == "onednn":
        layers = [MkldnnLinear(layer, torch.float) for layer in layers]
    model = torch.nn.Sequential(*layers)
    batches = [torch.randn(1, 40 * i + 1, 640) for i in range(8)]
    with torch.inference_mode():
        expected = [model(batch) for batch in batches]
        for workers in (1, 2, 3):
            found = list(in_workers(model, batches, lambda workers=workers: workers))
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert len({batch.shape for batch in batches}) == 8


def test_as_many_are_computed_at_a_time_as_there_are_workers_at_that_moment():
    """Two pass the barrier together or not at all; one alone passes no barrier of two."""
    now, most, lock = 0, [], threading.Lock()
    both = threading.Barrier(2, timeout=10)

    def compute(batch: int) -> int:
        nonlocal now
        with lock:
            now += 1
            most.append(now)
        if batch < 6:
            both.wait()
        time.sleep(0.01)
        with lock:
            now -= 1
        return batch

    begun = []

    def batches():
        for batch in range(10):
            begun.append(batch)
            yield batch

    results = in_workers(compute, batches(), lambda: 2 if len(begun) < 6 else 1)
    assert list(results) == list(range(10))
    assert max(most[:6]) == 2
    assert max(most[7:]) == 1


def test_few_results_wait_for_a_slow_one_before_them():
    first, begun = threading.Event(), []

    def compute(batch: int) -> int:
        begun.append(batch)
        if batch == 0:
            first.wait(10)
        return batch

    threading.Timer(0.3, first.set).start()
    results = in_workers(compute, range(50), lambda: 2)
    assert next(results) == 0
    assert len(begun) <= 4
    assert list(results) == list(range(1, 50))


def test_an_error_of_a_worker_stops_the_rest():
    begun = []

    def compute(batch: int) -> int:
        begun.append(batch)
        if batch == 3:
            raise MemoryError("batch 3")
        return batch

    results = in_workers(compute, range(50), lambda: 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(MemoryError, match="batch 3"):
        next(results)
    assert len(begun) < 8
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("worker")]


def test_workers_are_in_the_callers_mode_with_its_number_of_threads():
    def compute(_: int) -> tuple[bool, int]:
        return torch.is_inference_mode_enabled(), torch.get_num_threads()

    assert list(in_workers(compute, range(2), lambda: 2)) == [(False, 1)] * 2
    with torch.inference_mode():
        assert list(in_workers(compute, range(2), lambda: 2)) == [(True, 1)] * 2
    assert list(in_workers(compute, [], lambda: 2)) == []
