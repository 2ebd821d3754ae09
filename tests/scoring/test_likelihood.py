"""Likelihood, against its definition."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from conftest import pair
from rmtransfer.kit.errors import StudyError
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
        ("{{ messages[0]['content'] }}", "renders no answer of row 'a' in en"),
    ],
)
def test_a_template_that_hides_where_the_answer_starts(tmp_path, bases, template, message):
    spec = {"kind": "likelihood", "path": str(bases["qwen"]), "chat_template": template}
    with pytest.raises(StudyError, match=message):
        run(tmp_path, spec, {"en": [pair("a", "What is the capital?", "Paris.", "No.")]})
