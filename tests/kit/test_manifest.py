"""A folder without a manifest was never finished."""

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
