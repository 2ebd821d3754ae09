"""The reward that a DPO policy implies, against TRL's own."""

import shutil

import pandas as pd
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from conftest import pair
from rmtransfer.kit.errors import StudyError
from scored import run, settings


@pytest.fixture
def policy(bases, tmp_path):
    """Qwen's base, moved a little."""
    model = AutoModelForCausalLM.from_pretrained(bases["qwen"])
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(tmp_path / "policy")
    AutoTokenizer.from_pretrained(bases["qwen"]).save_pretrained(tmp_path / "policy")
    return tmp_path / "policy"


def implied(tmp_path, policy, reference, pairs, **more) -> pd.DataFrame:
    options = {"kind": "implicit", "policy": str(policy), "reference": str(reference), **more}
    return run(tmp_path, options, {"en": pairs}, budget=200)["en"]


def test_equals_trl(tmp_path, policy, bases, pairs):
    frame = implied(tmp_path, policy, bases["qwen"], pairs, beta=0.3)
    some = [pairs[i] for i in (0, 5, 11)]
    sets = {p["id"]: Dataset.from_list([{k: p[k] for k in ("prompt", "chosen", "rejected")}]) for p in some}
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(policy),
        ref_model=AutoModelForCausalLM.from_pretrained(bases["qwen"]),
        args=DPOConfig(
            output_dir=str(tmp_path / "trl"),
            beta=0.3,
            per_device_eval_batch_size=1,
            use_cpu=True,
            bf16=False,
            max_length=None,
            report_to=[],
        ),
        train_dataset=sets["r0"],
        eval_dataset=sets,
        processing_class=AutoTokenizer.from_pretrained(policy),
    )
    trainer.evaluate()
    ours = frame.set_index("id")
    for identity, theirs in zip(sets, trainer.state.log_history, strict=True):
        for side in ("chosen", "rejected"):
            expected = theirs[f"eval_rewards/{side}"]
            assert abs(expected) > 1e-3
            assert ours.loc[identity, f"reward_{side}"] == pytest.approx(expected, abs=1e-4)


def test_beta_scales_and_length_divides(tmp_path, policy, bases, pairs):
    plain = implied(tmp_path, policy, bases["qwen"], pairs)
    scaled = implied(tmp_path, policy, bases["qwen"], pairs, beta=0.5)
    normalized = implied(tmp_path, policy, bases["qwen"], pairs, length_normalized=True)
    tokenizer = AutoTokenizer.from_pretrained(policy)
    for side in ("chosen", "rejected"):
        column = f"reward_{side}"
        torch.testing.assert_close(torch.tensor(scaled[column]), torch.tensor(5 * plain[column]))
        length = [
            len(tokenizer.apply_chat_template(p["prompt"] + p[side])["input_ids"])
            - len(tokenizer.apply_chat_template(p["prompt"], add_generation_prompt=True)["input_ids"])
            for p in pairs
        ]
        torch.testing.assert_close(torch.tensor(normalized[column]), torch.tensor(plain[column] / length))
    named = settings(tmp_path)
    assert (named["beta"], named["length_normalized"]) == (0.1, True)
    assert named["policy"] != named["reference"]


def test_a_policy_that_is_its_reference_has_no_reward(tmp_path, bases, pairs):
    with pytest.raises(StudyError, match=r"all 24 rewards on en are 0; .* policy and reference are the same"):
        implied(tmp_path, bases["qwen"], bases["qwen"], pairs)


def test_a_reference_of_another_vocabulary(tmp_path, policy, bases, pairs):
    words = r"theirs.reference: its tokenizer reads row 'r0' in en otherwise .* has '<\|im_start\|>' \(\d+\) as token 1 where"
    with pytest.raises(StudyError, match=words):
        implied(tmp_path, policy, bases["gemma"], pairs)


def with_token(folder, source, token):
    """The same model with one more token, which is read where it stands in a text."""
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens([token], special_tokens=True)
    shutil.copytree(source, folder)
    tokenizer.save_pretrained(folder)
    (folder / "manifest.json").unlink(missing_ok=True)
    return folder


@pytest.mark.parametrize("side", ["policy", "reference"])
def test_a_token_that_no_text_holds_may_differ(tmp_path, policy, bases, pairs, side):
    expected = implied(tmp_path / "plain", policy, bases["qwen"], pairs)
    models = {"policy": policy, "reference": bases["qwen"]}
    models[side] = with_token(tmp_path / "more", models[side], "<never>")
    found = implied(tmp_path / "more_scores", **models, pairs=pairs)
    torch.testing.assert_close(torch.tensor(found["reward_chosen"]), torch.tensor(expected["reward_chosen"]))


def test_a_token_that_a_text_holds_is_named_with_its_row(tmp_path, policy, bases, pairs):
    odd = pair("odd", "What is it?", "It is <never> so.", "No.")
    reference = with_token(tmp_path / "more", bases["qwen"], "<never>")
    with pytest.raises(StudyError, match=r"theirs.reference: .* row 'odd' in en .* where it has '<never>' \(\d+\)"):
        implied(tmp_path, policy, reference, [*pairs, odd])


def test_a_reward_by_hand(tmp_path, policy, bases, pairs):
    frame = implied(tmp_path, policy, bases["qwen"], pairs, beta=0.7)
    p = pairs[4]
    tokenizer = AutoTokenizer.from_pretrained(policy)
    start = len(tokenizer.apply_chat_template(p["prompt"], add_generation_prompt=True)["input_ids"])
    for side in ("chosen", "rejected"):
        ids = tokenizer.apply_chat_template(p["prompt"] + p[side])["input_ids"]
        total = []
        for folder in (policy, bases["qwen"]):
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            with torch.inference_mode():
                logp = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            total.append(sum(logp[i - 1, ids[i]].item() for i in range(start, len(ids))))
        assert frame[f"reward_{side}"][4] == pytest.approx(0.7 * (total[0] - total[1]), abs=1e-4)
        assert frame[f"tokens_{side}"][4] == len(ids)


def test_the_reference_may_read_less(tmp_path, policy, bases, pairs):
    short = tmp_path / "short"
    model = AutoModelForCausalLM.from_pretrained(bases["qwen"])
    model.config.max_position_embeddings = 40
    model.save_pretrained(short)
    AutoTokenizer.from_pretrained(bases["qwen"]).save_pretrained(short)
    with pytest.raises(StudyError, match=r"more than the 40 that the model reads"):
        implied(tmp_path, policy, short, pairs)
