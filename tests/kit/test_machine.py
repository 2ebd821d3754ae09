"""The environment that jobs inherit."""

from pathlib import Path

from rmtransfer.kit import machine


def test_the_library_comes_first_and_the_users_settings_stay(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "theirs")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    machine.prepare_environment(Path("workflow"))
    assert machine.os.environ["PYTHONPATH"] == "workflow:theirs"
    assert machine.os.environ["TOKENIZERS_PARALLELISM"] == "true"
    assert "mmap_threshold" in machine.os.environ["GLIBC_TUNABLES"]
