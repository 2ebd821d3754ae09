"""Likelihood, against its definition."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from conftest import pair
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import write_manifest
from rmtransfer.models import likelihoods
from rmtransfer.models.trunk import Trunk
from rmtransfer.scoring.job import Outputs, score
from rmtransfer.scoring.reward_model import TrunkStore
from scored import run, settings


@pytest.mark.parametrize("normalized", [True, False])
def test_likelihood_is_that_of_the_answer_given_the_prompt(tmp_path, base, pairs, normalized):
    spec = {"kind": "likelihood", "path": str(base), **({} if normalized else {"length_normalized": False})}
    frame = run(tmp_path, spec, {"en": pairs}, budget=128)["en"]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    for row, p in enumerate(pairs):
        for side in ("chosen", "rejected"):
            prompt = tokenizer.apply_chat_template(p["prompt"], add_generation_prompt=True)["input_ids"]
            whole = tokenizer.apply_chat_template(p["prompt"] + p[side])["input_ids"]
            assert whole[: len(prompt)] == prompt
            with torch.inference_mode():
                logp = model(torch.tensor([whole])).logits[0].log_softmax(-1)
            each = [logp[i - 1, whole[i]].item() for i in range(len(prompt), len(whole))]
            expected = sum(each) / (len(each) if normalized else 1)
            assert frame[f"reward_{side}"][row] == pytest.approx(expected, abs=1e-4)
            assert frame[f"tokens_{side}"][row] == len(whole)
    assert settings(tmp_path)["length_normalized"] is normalized


def test_a_bases_frozen_layers_are_read_from_the_store_that_its_reward_models_fill(tmp_path, bases, pairs, monkeypatch):
    """With the head's own treatment of logits, and without computing any frozen layer."""
    base = tmp_path / "base"
    shutil.copytree(bases["gemma"], base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "final_logit_softcapping": 2.0}))
    write_manifest(base, {"stage": "base_model"})
    rows, store = {"en": pairs}, TrunkStore(tmp_path / "trunk", 1, 2)
    options = {"kind": "likelihood", "path": str(base)}
    whole = run(tmp_path / "whole", options, rows)["en"]
    limits = {"tokens_per_batch": 256, "requests_at_once": 1, "device": "cpu", "trunk": store}
    embedded = Outputs(states={"en": tmp_path / "states.npz"})
    score({"kind": "trained", "path": str(base), "head": False}, "base", rows, embedded, tmp_path / "cache", **limits)
    computed = []
    monkeypatch.setattr(Trunk, "_compute", lambda self, groups: computed.append(groups))
    parts = run(tmp_path / "parts", options, rows, trunk=store)["en"]
    assert not computed
    for side in ("reward_chosen", "reward_rejected"):
        assert parts[side].to_numpy() == pytest.approx(whole[side].to_numpy(), abs=1e-6)
    plain = run(tmp_path / "plain", {"kind": "likelihood", "path": str(bases["gemma"])}, rows)["en"]
    assert abs(plain["reward_chosen"] - whole["reward_chosen"]).max() > 0.1  # the cap does something


def test_the_sum_does_not_depend_on_how_many_tokens_are_looked_at_together(tmp_path, base, pairs, monkeypatch):
    options = {"kind": "likelihood", "path": str(base), "length_normalized": False}
    whole = run(tmp_path / "whole", options, {"en": pairs})["en"]
    monkeypatch.setattr(likelihoods, "_AT_ONCE", 3)
    monkeypatch.setitem(likelihoods._LOGITS, "cpu", 1)  # a text a pass
    parts = run(tmp_path / "parts", options, {"en": pairs})["en"]
    for side in ("reward_chosen", "reward_rejected"):
        assert parts[side].to_numpy() == pytest.approx(whole[side].to_numpy(), rel=1e-5)


def test_a_token_that_straddles_the_boundary_belongs_to_the_answer(tmp_path, bases):
    tokenizer = AutoTokenizer.from_pretrained(bases["qwen"])
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    p = pair("a", "What is the capital of Fra", "nce? Paris.", "ncs")
    spec = {"kind": "likelihood", "path": str(bases["qwen"]), "chat_template": template, "length_normalized": False}
    frame = run(tmp_path, spec, {"en": [p]})["en"]
    text, answer_at = p["prompt"][0]["content"] + p["chosen"][0]["content"], len(p["prompt"][0]["content"])
    coded = tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
    ends = [end for _, end in coded.pop("offset_mapping")[0].tolist()]
    starts = [0, *ends][: len(ends)]
    first = next(i for i, end in enumerate(ends) if end > answer_at)
    assert starts[first] < answer_at  # it does straddle
    model = AutoModelForCausalLM.from_pretrained(bases["qwen"], dtype=torch.float32).eval()
    with torch.inference_mode():
        logp = model(coded["input_ids"]).logits[0].log_softmax(-1)
    whole = coded["input_ids"][0].tolist()
    expected = sum(logp[i - 1, whole[i]].item() for i in range(first, len(whole)))
    assert frame["reward_chosen"][0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{{ messages | length }} turns: {% for m in messages %}{{ m['content'] }}{% endfor %}",
            "otherwise once an answer",
        ),
        (
            "{% for m in messages %}{{ m['content'] | replace('Paris.', '') }}{% endfor %}",
            "renders no answer of row 'a' in en",
        ),
    ],
)
def test_a_template_that_hides_where_the_answer_starts(tmp_path, bases, template, message):
    spec = {"kind": "likelihood", "path": str(bases["qwen"]), "chat_template": template}
    with pytest.raises(StudyError, match=message):
        run(tmp_path, spec, {"en": [pair("a", "What is the capital?", "Paris.", "No.")]})
