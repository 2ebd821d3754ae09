"""A folder without a manifest was never finished."""

import os

import pytest

from rmtransfer.kit import manifest
from rmtransfer.kit.errors import StudyError


def test_manifest_names_the_bytes_beside_it(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"abc")
    manifest.write_manifest(tmp_path, {"stage": "train"})
    facts = manifest.read_manifest(tmp_path)
    # SHA-256 of "abc", FIPS 180-2 appendix B.1
    assert facts["files"] == {"model.bin": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    assert facts["stage"] == "train"
    assert "torch" in facts["libraries"]


def test_a_hard_link_to_a_file_of_the_base_is_not_read_again(tmp_path, monkeypatch):
    base, folder = tmp_path / "base", tmp_path / "m"
    for one in (base, folder):
        one.mkdir()
        (one / "config.json").write_text("{}")
    (base / "shard.safetensors").write_bytes(b"abc")
    manifest.write_manifest(base, {})
    os.link(base / "shard.safetensors", folder / "renamed.safetensors")
    (folder / "own.safetensors").write_bytes(b"abc")
    digest_file, read = manifest.digest_file, []
    monkeypatch.setattr(manifest, "digest_file", lambda path: read.append(path.name) or digest_file(path))
    manifest.write_manifest(folder, {}, base)
    assert read == ["config.json", "own.safetensors"]
    without = manifest.read_manifest(folder)
    manifest.write_manifest(folder, {})
    assert manifest.read_manifest(folder) == without


def test_model_card_does_not_identify_the_weights(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"abc")
    manifest.write_manifest(tmp_path, {})
    before = manifest.digest_folder(tmp_path)
    (tmp_path / "README.md").write_text("card")
    manifest.write_manifest(tmp_path, {"other": 1})
    assert manifest.digest_folder(tmp_path) == before
    (tmp_path / "model.bin").write_bytes(b"abd")
    manifest.write_manifest(tmp_path, {})
    assert manifest.digest_folder(tmp_path) != before


def test_an_unfinished_folder(tmp_path):
    with pytest.raises(StudyError, match="never finished"):
        manifest.read_manifest(tmp_path)


@pytest.fixture
def folder(tmp_path):
    """A model without a manifest."""
    folder = tmp_path / "models" / "m"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.bin").write_bytes(b"\0" * (5 << 20) + b"a")
    return folder


def test_a_folder_is_all_that_it_holds(folder, monkeypatch):
    """Two fine-tunes with frozen embeddings agree in their first megabytes."""
    first = manifest.identity(str(folder))
    assert first == manifest.identity("m", None, folder.parent) == manifest.identity("m", "0" * 40, folder.parent)
    for name in ("README.md", ".gitattributes"):
        (folder / name).write_text("card")
    assert manifest.identity(str(folder)) == first
    (folder / "model.bin").write_bytes(b"\0" * (5 << 20) + b"b")
    os.utime(folder / "model.bin", (1, 1))
    second = manifest.identity(str(folder))
    assert second != first
    (folder / "config.json").rename(folder / "configuration.json")
    assert manifest.identity(str(folder)) not in (first, second)


def test_with_or_without_a_manifest_it_is_the_same_model(folder):
    before = manifest.identity(str(folder))
    manifest.write_manifest(folder, {"stage": "fetch"})
    assert manifest.identity(str(folder)) == before == f"sha256:{manifest.digest_folder(folder)}"


def test_a_folder_is_read_once(folder, monkeypatch):
    first = manifest.identity(str(folder))
    read = []
    original = manifest.digest_file
    monkeypatch.setattr(manifest, "digest_file", lambda path: (read.append(path.name), original(path))[1])
    assert manifest.identity(str(folder)) == first
    assert manifest.identity(f"{folder}/../m") == first
    assert read == []
    os.utime(folder / "model.bin", ns=(1, 1))
    assert manifest.identity(str(folder)) == first
    assert read == ["config.json", "model.bin"]
    (kept,) = [path for path in folder.parent.iterdir() if path.is_file()]
    assert kept.name.startswith(".")
    kept.write_text("[")
    assert manifest.identity(str(folder)) == first


def test_a_place_that_nobody_may_write_to(folder, monkeypatch):
    def refuse(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr(manifest, "write_once", refuse)
    assert manifest.identity(str(folder)).startswith("sha256:")
    assert [path.name for path in folder.parent.iterdir()] == ["m"]


def test_a_hub_model_is_its_commit(tmp_path):
    assert manifest.identity("org/model", "a" * 40, tmp_path) == f"org/model@{'a' * 40}"
    with pytest.raises(StudyError, match=r"'org/model' is no folder, .* needs a revision"):
        manifest.identity("org/model", None, tmp_path)


def test_what_to_load_a_model_from(folder, tmp_path):
    assert manifest.located("models/m", "a" * 40, tmp_path) == (str(folder), None)
    assert manifest.located("org/model", "a" * 40, tmp_path) == ("org/model", "a" * 40)
