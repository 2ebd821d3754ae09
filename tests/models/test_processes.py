"""Several processes on the CPU, with gloo and FSDP2, learn what one does."""

import ast
import contextlib
import signal
import threading
import time

import psutil
import pytest
import torch

from rmtransfer.kit.errors import StudyError
from rmtransfer.models import reward, training
from trainings import RECIPE, parameters, train

STEPS_OF_FIVE = {**RECIPE, "pairs_per_step": 5}


def measures(output):
    """What Trainer printed after each step."""
    steps = [ast.literal_eval(line) for line in output.splitlines() if line.startswith("{'loss'")]
    return torch.tensor([[float(value) for value in step.values()] for step in steps])


def test_several_processes_learn_what_one_does(bases, pairs, tmp_path, capfd, warm_training):
    """The last of an epoch's steps has two pairs, fewer than there are processes."""
    options = {"recipe": STEPS_OF_FIVE, "tokens_per_batch": 64, "gradient_checkpointing": True}
    alone = parameters(train(bases["gemma"], pairs, tmp_path, "alone", **options))
    expected = measures(capfd.readouterr().out)
    together = parameters(train(bases["gemma"], pairs, tmp_path, "together", **options, processes=3))
    got = measures(capfd.readouterr().out)
    assert len(expected) == 6
    torch.testing.assert_close(got, expected, atol=2e-3, rtol=2e-3)  # norm of the gradients among them
    start = parameters(reward.build_reward_model(bases["gemma"], 0))
    assert (alone - start).abs().max() > 1e-3
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert not (tmp_path / "work").exists()


def test_a_killed_process_ends_the_job_which_then_goes_on(bases, pairs, tmp_path, capfd, warm_training):
    """With an adapter, whose parts are few."""
    adapter = {"kind": "lora", "rank": 4, "alpha": 8, "dropout": 0, "target_modules": "all-linear", "merge": True}
    recipe = {**STEPS_OF_FIVE, "epochs": 20, "adapter": adapter}
    alone = parameters(train(bases["qwen"], pairs, tmp_path, "alone", recipe))

    def kill_the_second():
        while not list((tmp_path / "work").glob("*/parts/checkpoint-*/scheduler.pt")):
            time.sleep(0.05)
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.environ().get("RANK") == "1":
                    process.send_signal(signal.SIGKILL)

    watcher = threading.Thread(target=kill_the_second)
    watcher.start()
    options = {"processes": 2, "checkpoint_minutes": 0}
    with pytest.raises(RuntimeError, match="one of the 2 processes that train together failed or was killed"):
        train(bases["qwen"], pairs, tmp_path, "together", recipe, **options)
    watcher.join()
    assert not (tmp_path / "together").exists()
    capfd.readouterr()
    together = parameters(train(bases["qwen"], pairs, tmp_path, "together", recipe, **options))
    assert "going on from checkpoint-" in capfd.readouterr().out
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_what_the_user_can_mend_is_said_as_such(bases, pairs, tmp_path):
    """Processes with nothing loaded before, as users have them."""
    with pytest.raises(StudyError, match="frozen_layers: 9 is more than the 3 layers"):
        train(bases["llama"], pairs, tmp_path, recipe={**RECIPE, "frozen_layers": 9}, processes=2)


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    training.check_machine("adamw", 2, torch.device("cuda"))
    with pytest.raises(StudyError, match=r"processes: 3 is more than the GPUs here \(2\); lower it"):
        training.check_machine("adamw", 3, torch.device("cuda"))
    training.check_machine("adamw", 3, torch.device("cpu"))
