"""A folder that holds no model is named at the config check with its remedy, by names and first bytes alone."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from safetensors.numpy import save
from transformers import AutoModelForCausalLM, AutoTokenizer

from rmtransfer.kit.errors import StudyError
from rmtransfer.models import hub
from rmtransfer.models.folders import problem_of
from rmtransfer.models.options import check_model
from rmtransfer.models.pretrained import Pretrained
from scored import classifier

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
WEIGHTS = save({})
INDEX = {"weight_map": {"a": "model-00001-of-00003.safetensors", "b": "model-00002-of-00003.safetensors"}}
INDEX["weight_map"]["c"] = "model-00003-of-00003.safetensors"
MODEL = {"config.json": {"model_type": "llama"}, "model.safetensors": WEIGHTS, "tokenizer.json": {}}
ADAPTER = {"adapter_config.json": {"base_model_name_or_path": "org/base"}, "adapter_model.safetensors": WEIGHTS}


def folder(path: Path, files: dict) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    path.mkdir(exist_ok=True)
    return path


def without(*names: str, **more) -> dict:
    return {name: content for name, content in {**MODEL, **more}.items() if name not in names}


def quantised(**config) -> dict:
    return {**MODEL, "config.json": {"quantization_config": config}}


FAULTS = {
    "empty": ({}, "weights", "is a folder without files; put the model there, or name another"),
    "adapter": (
        {**ADAPTER, "tokenizer.json": {}},
        "weights",
        "holds an adapter of org/base and no model; load it with PEFT, merge it into that (merge_and_unload)",
    ),
    "adapter as a base": (
        ADAPTER,
        "training",
        "holds an adapter of org/base and no model; load it with PEFT, merge it into that (merge_and_unload), save model "
        "and tokenizer and name their folder, or name org/base and have training.adapter train another",
    ),
    "adapter beside its model": (
        MODEL | ADAPTER,
        "weights",
        "holds whole weights and an adapter of org/base, which would",
    ),
    "adapter that names nothing": (
        {"adapter_config.json": b"{"},
        "weights",
        "holds an adapter of its base model, which",
    ),
    "GGUF": (
        {"config.json": {}, "model.Q4_K_M.gguf": b"GGUF", "tokenizer.json": {}},
        "training",
        "holds GGUF files alone (model.Q4_K_M.gguf), which are llama.cpp's; name the model that they were made from",
    ),
    "quantised base": (
        quantised(quant_method="mxfp4"),
        "training",
        "is quantised (mxfp4), and its weights cannot be trained; name the model that it was made from",
    ),
    "quantised": (
        quantised(quant_method="gptq", bits=4),
        "weights",
        "is quantised (gptq), for which Python needs the package gptqmodel, which is not here; install that, or name",
    ),
    "quantised by an old bitsandbytes": (quantised(load_in_4bit=True), "weights", "is quantised (bitsandbytes), for"),
    "a missing shard": (
        without("model.safetensors")
        | dict.fromkeys(sorted(INDEX["weight_map"].values())[:2], WEIGHTS)
        | {"model.safetensors.index.json": INDEX},
        "weights",
        "lacks model-00003-of-00003.safetensors of the 3 files that model.safetensors.index.json names; download what",
    ),
    "missing shards of pickles": (
        without("model.safetensors") | {"pytorch_model.bin.index.json": INDEX},
        "training",
        "lacks model-00001-of-00003.safetensors and 2 more of the 3 files that pytorch_model.bin.index.json names",
    ),
    "no index": (
        without("model.safetensors") | {"model-00001-of-00003.safetensors": WEIGHTS},
        "weights",
        "holds model-00001-of-00003.safetensors and no index that says what is in which file; download that too",
    ),
    "an index of nothing": (
        without("model.safetensors") | {"model.safetensors.index.json": b"<html>"},
        "weights",
        "holds a model.safetensors.index.json that names no file; download it again",
    ),
    "weights as a pointer": (
        {**MODEL, "model.safetensors": POINTER},
        "weights",
        "holds a Git LFS pointer instead of model.safetensors; run `git lfs pull` in it",
    ),
    "a tokenizer as a pointer": (
        {**MODEL, "tokenizer.json": POINTER},
        "tokenizer",
        "holds a Git LFS pointer instead of",
    ),
    "our own as a pointer": (
        {"manifest.json": {}, "x.safetensors": POINTER},
        "ours",
        "holds a Git LFS pointer instead of",
    ),
    "no weights": (
        without("model.safetensors"),
        "weights",
        "holds no weights that transformers reads (model.safetensors or pytorch_model.bin); download them, or convert",
    ),
    "weights of another kind": (
        without("model.safetensors") | {"flax_model.msgpack": b"x"},
        "weights",
        "holds no weights that transformers reads (model.safetensors or pytorch_model.bin) but flax_model.msgpack;",
    ),
    "weights cut off": (
        {**MODEL, "model.safetensors": (1000).to_bytes(8, "little") + b'{"a":'},
        "weights",
        "holds model.safetensors, which is damaged or was cut off; download it again",
    ),
    "weights without their end": (
        {**MODEL, "model.safetensors": (47).to_bytes(8, "little") + b'{"a":{"data_offsets":[0,9],"dtype":"I8","x":1}}'},
        "weights",
        "holds model.safetensors, which is damaged or was cut off",
    ),
    "empty weights": (
        without("model.safetensors") | {"pytorch_model.bin": b""},
        "weights",
        "holds pytorch_model.bin, which is empty; download it again",
    ),
    "no tokenizer": (
        without("tokenizer.json"),
        "weights",
        "holds no tokenizer (tokenizer.json, tokenizer.model or a vocabulary); copy there what belongs to the model",
    ),
    "settings of a tokenizer": (
        without("tokenizer.json") | {"tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer"}},
        "tokenizer",
        "holds no tokenizer but its settings (tokenizer.json,",
    ),
    "no config": (
        without("config.json"),
        "weights",
        "holds no config.json and so no model in the format of transformers;",
    ),
    "a damaged config": (
        {**MODEL, "config.json": b'{"model'},
        "weights",
        "holds a config.json that is no JSON object;",
    ),
    "checkpoints": (
        {"checkpoint-500/config.json": {}, "trainer_state.json": {}},
        "weights",
        "holds no model but folders of models; name one, such as ",
    ),
    "the hub's cache": (
        {"refs/main": b"0", "snapshots/0123/config.json": {}},
        "training",
        "holds no model but folders of models; name one, such as ",
    ),
    "never finished": (MODEL, "ours", "holds no manifest.json, and so no reward model that this workflow has finished"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_no_model_is_named_with_its_remedy(tmp_path, case):
    files, use, said = FAULTS[case]
    problem = problem_of(folder(tmp_path / "model", files), use)
    assert problem is not None
    assert problem.startswith(said)
    assert "; " in problem


def test_a_link_to_nothing_is_named(tmp_path):
    (folder(tmp_path / "model", MODEL) / "model.safetensors").unlink()
    (tmp_path / "model/model.safetensors").symlink_to(tmp_path / "blobs/gone")
    assert problem_of(tmp_path / "model") == (
        "holds model.safetensors, which is a link to a file that is not there; download the folder again"
    )


WHOLE = {
    "plain": (MODEL, "training"),
    "pickled": (without("model.safetensors") | {"pytorch_model.bin": b"x"}, "weights"),
    "a vocabulary": (without("tokenizer.json") | {"vocab.txt": b"x"}, "weights"),
    "SentencePiece": (without("tokenizer.json") | {"spiece.model": b"x"}, "weights"),
    "bytes": (without("tokenizer.json") | {"tokenizer_config.json": {"tokenizer_class": "ByT5Tokenizer"}}, "weights"),
    "code of its own": (
        {"config.json": {"auto_map": {}}, "x.pt": b"x", "tokenization_x.py": b"", "x.tiktoken": b""},
        "weights",
    ),
    "a tokenizer alone": ({"tokenizer.json": {}, "tokenizer_config.json": {}}, "tokenizer"),
    "quantised by what transformers has": (quantised(quant_method="fp8"), "weights"),
    "our adapter": ({**ADAPTER, "manifest.json": {}}, "ours"),
    "GGUF beside weights": ({**MODEL, "model.gguf": b"GGUF"}, "weights"),
}


@pytest.mark.parametrize("case", WHOLE)
def test_what_may_load_is_left_to_the_loader(tmp_path, case):
    files, use = WHOLE[case]
    assert problem_of(folder(tmp_path / "model", files), use) is None


def test_a_quantised_model_needs_its_package_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gptqmodel", shutil)
    assert problem_of(folder(tmp_path / "model", quantised(quant_method="gptq"))) is None


def test_real_models_are_models(tmp_path, bases):
    assert [problem_of(base, use) for base in bases.values() for use in ("weights", "training", "ours")] == [None] * 9
    assert problem_of(classifier(bases["llama"], tmp_path / "rm")) is None
    model = AutoModelForCausalLM.from_pretrained(bases["qwen"])
    model.save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    AutoTokenizer.from_pretrained(bases["qwen"]).save_pretrained(tmp_path / "shards")
    shards = sorted((tmp_path / "shards").glob("*.safetensors"))
    assert len(shards) > 1
    assert problem_of(tmp_path / "shards", "training") is None
    content = shards[0].read_bytes()
    for damaged in (content[:-1], content[:20], content[:4]):
        shards[0].write_bytes(damaged)
        assert (
            problem_of(tmp_path / "shards")
            == f"holds {shards[0].name}, which is damaged or was cut off; download it again"
        )
    shards[-1].unlink()
    assert str(problem_of(tmp_path / "shards")).startswith(f"lacks {shards[-1].name} of the {len(shards)} files")


def test_the_key_and_the_folder_stand_before_it(tmp_path):
    folder(tmp_path / "model", ADAPTER)
    (tmp_path / "model.gguf").write_bytes(b"GGUF\3")
    (tmp_path / "model.txt").write_bytes(b"GG")

    def said(model: str, *bases: str) -> list[str]:
        return list(check_model(model, None, "reward_models.x.path", "revision", bases, tmp_path))

    (problem,) = said("model")
    assert problem.startswith("reward_models.x.path: 'model' holds an adapter of org/base and no model; ")
    assert said("model", "model") == []  # the base of that name
    assert said("model.gguf") == [
        "reward_models.x.path: 'model.gguf' is a GGUF file, which is llama.cpp's; name the model that it was made from"
    ]
    assert said("model.txt") == [
        "reward_models.x.path: 'model.txt' is a file; name the folder of a model in the format of transformers"
    ]


def test_a_base_is_to_be_trained(tmp_path):
    files = folder(tmp_path / "model", quantised(quant_method="mxfp4"))
    options = Pretrained.Options(path=str(files))
    assert list(Pretrained.check(options, "base_models.m", tmp_path)) == [
        f"base_models.m.path: '{files}' is quantised (mxfp4), and its weights cannot be trained; name the model that it was made "
        "from"
    ]


def test_what_the_hub_has_is_looked_at_once_it_is_here(tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, local_dir, **__: folder(local_dir, ADAPTER))
    with pytest.raises(
        StudyError, match="model 'org/name' at revision '0123' holds an adapter of org/base and no model"
    ):
        hub.fetch_model("org/name", "0123", tmp_path / "model")
    assert not (tmp_path / "model/manifest.json").exists()
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *_, local_dir, **__: folder(local_dir, {"tokenizer.json": {}})
    )
    hub.fetch_model("org/name", "0123", tmp_path / "tokenizer", tokenizer_only=True)
    assert (tmp_path / "tokenizer/manifest.json").is_file()


def test_a_base_of_the_hub_is_looked_at_as_a_folder_is(tmp_path, monkeypatch):
    """Transformers would load an adapter's base, put the adapter on it, and say nothing."""
    import huggingface_hub

    files = quantised(quant_method="mxfp4")
    options = Pretrained.Options(path="org/name", revision="0123456789" * 4)
    for content, said in ((ADAPTER, "holds an adapter of org/base and no model"), (files, "is quantised \\(mxfp4\\)")):
        here = folder(tmp_path / said[:5], content)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, here=here, **__: str(here))
        with pytest.raises(StudyError, match=rf"base_models\.m\.path: 'org/name' at revision '0123456789\d+' {said}"):
            Pretrained.load(options, "base_models.m", tmp_path, tmp_path)


def test_a_base_of_the_hub_is_loaded_from_its_snapshot(tmp_path, monkeypatch, base):
    import huggingface_hub

    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda model, revision, **_: asked.append((model, revision)) or str(base)
    )
    options = Pretrained.Options(path="org/name", revision="0123456789" * 4)
    model, tokenizer = Pretrained.load(options, "base_models.m", tmp_path, tmp_path)
    assert asked == [("org/name", options.revision)]
    assert len(tokenizer) <= model.config.vocab_size


def test_a_base_that_the_hub_does_not_give_is_one_message(tmp_path, monkeypatch):
    import huggingface_hub

    def nothing(*_, **__):
        raise OSError("no such repository\nask somebody")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", nothing)
    options = Pretrained.Options(path="org/name", revision="0123456789" * 4)
    with pytest.raises(
        StudyError, match=r"base_models\.m\.path: 'org/name' at revision .* cannot be downloaded: no such repo"
    ):
        Pretrained.load(options, "base_models.m", tmp_path, tmp_path)
