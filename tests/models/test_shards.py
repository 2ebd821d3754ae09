"""Models that share files are whole models for every loader, and lose nothing when one of them goes."""

import errno
import json
import os
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig

from rmtransfer.kit.manifest import digest_folder, write_manifest
from rmtransfer.models import chat, reward, shards

IDS = torch.tensor([[5, 6, 7, 8, 9]])
INDEX = "model.safetensors.index.json"


@pytest.fixture
def base(base, tmp_path):
    """Of each family, in shards."""
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    shards.reshard(folder)
    write_manifest(folder, {})
    return folder


def trained(base, folder, seed=0, frozen=2, dtype=torch.float32):
    """A reward model whose first blocks and embeddings are the base's, as stock classes save it, and its rewards."""
    model = reward.build_reward_model(base, seed).to(dtype)
    torch.manual_seed(seed)
    with torch.no_grad():
        for module in [*model.model.layers[frozen:], model.model.norm]:
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    chat.save_tokenizer(chat.load_tokenizer(base), folder)
    return rewards(folder)


def rewards(folder):
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for (
        parameter
    ) in model.parameters():  # out of the mapped file, whose place in memory may change a product's rounding
        parameter.data = parameter.data.clone()
    with torch.inference_mode():
        return model(IDS).logits


def bytes_on_disk(*folders):
    found = {}
    for folder in folders:
        for path in folder.glob("*.safetensors"):
            found[path.stat().st_ino] = path.stat().st_size
    return sum(found.values())


def tensors(folder):
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("kind", [AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification])
def test_a_base_in_shards_is_the_base_in_one_file(base, bases, family, kind):
    torch.manual_seed(0)
    before = kind.from_pretrained(bases[family]).state_dict()
    torch.manual_seed(0)  # of a head that is drawn
    after = kind.from_pretrained(base).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_one_file_for_the_table_one_for_each_block_one_for_the_rest(base, family):
    held = {path.name: set(safe_open(path, "pt").keys()) for path in base.glob("*.safetensors")}
    index = json.loads((base / INDEX).read_text())
    assert index["weight_map"] == {name: file for file, names in held.items() for name in names}
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors(base).values())
    assert {"model.embed_tokens.weight"} in held.values()
    assert {"model.norm.weight"} in held.values()
    blocks = [names for names in held.values() if any(".layers." in name for name in names)]
    assert sorted(sorted({name.split(".")[2] for name in names}) for names in blocks) == [["0"], ["1"], ["2"]]
    assert len(held) == 5 + ("lm_head.weight" in index["weight_map"])
    assert ("lm_head.weight" in index["weight_map"]) == (family != "gemma")  # tied there
    assert all(path.stat().st_mode & 0o222 == 0 for path in base.glob("*.safetensors"))


def test_names_of_any_kind(tmp_path):
    names = ["wte", "h.0.w", "h.0.mlp.3.w", "h.10.w", "h.2.w", "tower.h.0.w", "ln", "b.1"]
    before = {name: torch.randn((4, 3) if name == "wte" else 3) for name in names}
    save_file(before, tmp_path / "model.safetensors", {"format": "pt"})
    shards.reshard(tmp_path)
    held = [sorted(safe_open(path, "pt").keys()) for path in sorted(tmp_path.glob("*.safetensors"))]
    assert held == [["b.1", "ln"], ["wte"], ["h.0.mlp.3.w", "h.0.w"], ["h.2.w"], ["h.10.w"], ["tower.h.0.w"]]
    after = tensors(tmp_path)
    assert all(torch.equal(after[name], before[name]) for name in names)


def test_shared_files_change_no_reward(base, tmp_path):
    folder = tmp_path / "rm"
    expected = trained(base, folder)
    before = tensors(folder)
    shards.share(folder, base)
    assert torch.equal(rewards(folder), expected)
    after = tensors(folder)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not (folder / "model.safetensors").exists()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_what_is_frozen_lies_on_disk_once(base, tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for seed, folder in enumerate(folders):
        trained(base, folder, seed)
        shards.share(folder, base)
        write_manifest(folder, {})
    own = [sum(t.nbytes for n, t in tensors(f).items() if "layers.0" not in n and "layers.1" not in n) for f in folders]
    table = tensors(base)["model.embed_tokens.weight"].nbytes
    headers = 4000 * len(folders)
    assert bytes_on_disk(base, *folders) <= bytes_on_disk(base) + sum(own) - 3 * table + headers
    assert [sum(p.stat().st_nlink == 4 for p in f.glob("*.safetensors")) for f in folders] == [3, 3, 3]
    assert len({digest_folder(folder) for folder in folders}) == 3


def test_any_of_them_can_go(base, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    trained(base, a, 0)
    expected = trained(base, b, 1)
    for folder in (a, b):
        shards.share(folder, base)
    shutil.rmtree(a)
    shutil.rmtree(base)
    assert torch.equal(rewards(b), expected)


def test_saving_over_one_changes_no_other(base, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    trained(base, a, 0)
    expected = trained(base, b, 1)
    for folder in (a, b):
        shards.share(folder, base)
    model = AutoModelForSequenceClassification.from_pretrained(a)
    with torch.no_grad():
        model.model.embed_tokens.weight.zero_()
    names = [path.name for path in a.glob("*.safetensors")]
    model.save_pretrained(a)
    for name in names:  # as if a stock class used the names that are there
        save_file({"x": torch.zeros(3)}, a / name)
    assert torch.equal(rewards(b), expected)
    assert AutoModelForCausalLM.from_pretrained(base).get_input_embeddings().weight.any()


@pytest.mark.parametrize("frozen", [0, 3])
def test_nothing_and_all_blocks_are_frozen(base, tmp_path, frozen):
    folder = tmp_path / "rm"
    expected = trained(base, folder, frozen=frozen)
    shards.share(folder, base)
    assert torch.equal(rewards(folder), expected)
    assert sum(path.stat().st_nlink > 1 for path in folder.glob("*.safetensors")) == 1 + frozen


def test_a_model_that_keeps_nothing_stays_in_one_file(base, tmp_path):
    folder = tmp_path / "rm"
    trained(base, folder, frozen=0)
    weights = load_file(folder / "model.safetensors")
    save_file({name: t + 1 for name, t in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    shards.share(folder, base)
    assert [path.name for path in folder.glob("*.safetensors")] == ["model.safetensors"]
    assert not (folder / INDEX).exists()


def test_copies_where_links_are_not_to_be_had(base, tmp_path, monkeypatch):
    folder = tmp_path / "rm"
    expected = trained(base, folder)

    def link(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    shards.share(folder, base)
    assert torch.equal(rewards(folder), expected)
    assert {path.stat().st_nlink for path in folder.glob("*.safetensors")} == {1}


def test_tensors_in_another_dtype_are_the_models_own(base, tmp_path):
    """Whoever reads a folder with dtype="auto" gets one dtype, the one that was trained in."""
    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(half)
    chat.save_tokenizer(chat.load_tokenizer(base), half)
    shards.reshard(half)
    write_manifest(half, {})
    folder = tmp_path / "rm"
    expected = trained(half, folder)
    shards.share(folder, half)
    assert {t.dtype for t in tensors(folder).values()} == {torch.float32}
    assert torch.equal(rewards(folder), expected)


def test_a_model_that_was_saved_in_parts(base, tmp_path):
    folder = tmp_path / "rm"
    expected = trained(base, folder)
    AutoModelForSequenceClassification.from_pretrained(folder).save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink()
    assert len([*folder.glob("*.safetensors")]) > 2
    shards.share(folder, base)
    assert torch.equal(rewards(folder), expected)
    held = {folder / name for name in json.loads((folder / INDEX).read_text())["weight_map"].values()}
    assert held == {*folder.glob("*.safetensors")}
    assert sum(path.stat().st_nlink > 1 for path in held) == 3


def test_large_files_beside_the_weights_are_shared_too(base, tmp_path, monkeypatch):
    folder = tmp_path / "rm"
    trained(base, folder)
    chat.save_tokenizer(chat.load_tokenizer(base), base)
    monkeypatch.setattr(shards, "_WORTH_SHARING", (base / "tokenizer.json").stat().st_size)
    shards.share(folder, base)
    assert (folder / "tokenizer.json").samefile(base / "tokenizer.json")
    template = "chat_template.jinja"
    assert (folder / template).read_bytes() == (base / template).read_bytes()
    assert not (folder / template).samefile(base / template)  # someone may edit it


def test_an_adapter_has_no_weights_to_share(base, tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file({"a": torch.zeros(3)}, folder / "adapter_model.safetensors")
    shards.share(folder, base)
    assert [path.name for path in folder.iterdir()] == ["adapter_model.safetensors"]


@pytest.mark.parametrize(
    "harm", [lambda p: p.unlink(), lambda p: (p.chmod(0o644), p.write_bytes(p.read_bytes()[:900]))]
)
def test_a_damaged_base_costs_no_trained_model(base, tmp_path, harm, capsys):
    folder = tmp_path / "rm"
    expected = trained(base, folder)
    harm(sorted(base.glob("*.safetensors"))[-1])
    shards.share(folder, base)
    assert torch.equal(rewards(folder), expected)
    assert f"shares no weights with {base}: " in capsys.readouterr().out


def test_a_model_with_tied_and_one_with_free_embeddings(tmp_path, tokenizers):
    for tied in (False, True):
        folder, cut = tmp_path / f"whole{tied}", tmp_path / f"cut{tied}"
        config = LlamaConfig(
            vocab_size=120,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            tie_word_embeddings=tied,
        )
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        shutil.copytree(folder, cut)
        shards.reshard(cut)
        whole, again = (AutoModelForCausalLM.from_pretrained(f).eval() for f in (folder, cut))
        with torch.inference_mode():
            assert torch.equal(whole(IDS).logits, again(IDS).logits)
        assert (again.lm_head.weight.data_ptr() == again.get_input_embeddings().weight.data_ptr()) == tied
