"""Scoring does not depend on packing, batching, order or neighbours, and equals what stock classes compute."""

import math
import random
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from conftest import ROOT
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import write_manifest
from rmtransfer.models import chat, reward
from rmtransfer.models.attention import prefer_packs

TOLERANCE = 1e-4


@pytest.fixture(params=["packs", "padded rows"])
def model(base, request):
    model = reward.build_reward_model(base, seed=0).eval()
    return prefer_packs(model) if request.param == "packs" else model


@pytest.fixture
def sequences(base, pairs):
    tokenizer = chat.load_tokenizer(base)
    return tokenizer, [chat.encode_answer(tokenizer, p["prompt"], p[s]) for p in pairs for s in ("chosen", "rejected")]


def test_rewards_differ_between_inputs(model, sequences):
    rewards, _ = reward.score(model, sequences[1], tokens_per_batch=512)
    assert rewards.std() > 100 * TOLERANCE  # otherwise the tests below could not fail


def test_independent_of_batch_size_order_and_neighbours(model, sequences):
    _, ids = sequences
    alone = [reward.score(model, [s], 10_000) for s in ids]
    rewards, states = torch.cat([r for r, _ in alone]), torch.cat([s for _, s in alone])
    for budget in (1, 100, 400, 10_000):
        order = random.Random(budget).sample(range(len(ids)), len(ids))
        got, hidden = reward.score(model, [ids[i] for i in order], budget)
        torch.testing.assert_close(got, rewards[order], atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(hidden, states[order], atol=TOLERANCE, rtol=0)


def test_pools_the_last_real_token_even_where_pad_is_eos(model, sequences):
    tokenizer, ids = sequences
    expected = [reward.score(model, [s], 10_000)[0].item() for s in ids]
    tokenizer.pad_token = tokenizer.eos_token
    ids = [[*s, tokenizer.eos_token_id] if s[-1] != tokenizer.eos_token_id else s for s in ids]
    alone = [reward.score(model, [s], 10_000)[0].item() for s in ids]
    together, _ = reward.score(model, ids, 10_000)
    torch.testing.assert_close(together, torch.tensor(alone), atol=TOLERANCE, rtol=0)
    if tokenizer.eos_token != "<|eot_id|>":  # that one already ended with EOS
        assert alone != pytest.approx(expected, abs=TOLERANCE)


def test_equals_a_stock_forward_of_the_single_text(model, sequences):
    _, ids = sequences
    rewards, _ = reward.score(model, ids, 200)
    model.set_attn_implementation("sdpa")
    with torch.inference_mode():
        stock = torch.stack([model(input_ids=torch.tensor([s])).logits[0, 0] for s in ids])
    torch.testing.assert_close(rewards, stock, atol=TOLERANCE, rtol=0)


def test_state_is_what_the_head_reads(model, sequences):
    _, ids = sequences
    rewards, states = reward.score(model, ids, 200)
    torch.testing.assert_close(rewards, states @ model.score.weight[0].detach(), atol=TOLERANCE, rtol=0)
    model.set_attn_implementation("sdpa")
    with torch.inference_mode():
        stock = model(input_ids=torch.tensor([ids[0]]), output_hidden_states=True).hidden_states[-1][0, -1]
    torch.testing.assert_close(states[0], stock, atol=TOLERANCE, rtol=0)


def test_head_follows_the_authors_initialisation(base):
    heads = torch.cat([reward.build_reward_model(base, seed).score.weight.flatten() for seed in range(40)])
    hidden = reward.build_reward_model(base, 0).config.hidden_size
    assert heads.std().item() == pytest.approx(1 / math.sqrt(hidden + 1), rel=0.1)
    assert heads.mean().item() == pytest.approx(0, abs=0.02)
    assert reward.build_reward_model(base, 0).score.bias is None


def test_same_seed_same_head(base):
    weights = [reward.build_reward_model(base, seed).score.weight for seed in (3, 3, 4)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_saved_and_loaded_in_a_fresh_process_gives_equal_rewards(bases, pairs, tmp_path):
    for family, base in bases.items():
        folder, tokenizer = tmp_path / family, chat.load_tokenizer(base)
        ids = [chat.encode_answer(tokenizer, p["prompt"], p[s]) for p in pairs for s in ("chosen", "rejected")]
        model = reward.build_reward_model(base, seed=0).eval()
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_manifest(folder, {})
        expected, _ = reward.score(model, ids, 300)
        torch.save((ids, expected), folder / "expected.pt")
        stock = AutoModelForSequenceClassification.from_pretrained(folder)
        batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        with torch.inference_mode():
            torch.testing.assert_close(stock(**batch).logits[:, 0], expected, atol=TOLERANCE, rtol=0)
    code = (
        "import sys, torch\nfrom pathlib import Path\nfrom rmtransfer.models import chat, reward\n"
        "for folder in map(Path, sys.argv[1:]):\n"
        "    ids, expected = torch.load(folder / 'expected.pt')\n"
        "    model = reward.load_reward_model(folder, torch.device('cpu'))\n"
        "    got, _ = reward.score(model, ids, 300)\n"
        f"    assert (got - expected).abs().max() <= {TOLERANCE}, (folder, got, expected)\n    print(folder.name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *(str(tmp_path / family) for family in bases)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT / "workflow")},
    )
    assert done.stdout.split() == list(bases), done.stderr


def test_a_base_model_is_no_reward_model(base):
    with pytest.raises(StudyError, match="score head"):
        reward.score_head(reward.load_backbone(base, torch.device("cpu")))


def test_an_unfinished_folder_is_refused(tmp_path):
    with pytest.raises(StudyError, match="never finished"):
        reward.load_reward_model(tmp_path, torch.device("cpu"))


def test_several_batches_at_a_time_give_the_same_to_the_last_bit(model, sequences):
    _, ids = sequences
    one, _ = reward.score(model, ids, 60)
    three, _ = reward.score(model, ids, 60, workers=lambda: 3)
    assert torch.equal(one, three)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_token_budget_changes_no_reward(base, pairs, monkeypatch, dtype):
    """To a rounding error in fp32; in bf16, where rounding shows, to the last bit, because the packs are the same."""
    tokenizer = chat.load_tokenizer(base)
    texts = [
        chat.encode_answer(tokenizer, pair["prompt"], pair[side]) for pair in pairs for side in ("chosen", "rejected")
    ]
    model = prefer_packs(reward.build_reward_model(base, 0).to(dtype).eval())
    packs = []
    states = reward.last_token_states
    monkeypatch.setattr(reward, "last_token_states", lambda *a: (packs.append(a[1].members), states(*a))[1])
    (expected, _), expected_packs = reward.score(model, texts, 10_000), packs[:]
    for budget in (1, 64, 200):
        packs.clear()
        got, _ = reward.score(model, texts, budget)
        if dtype == torch.bfloat16:
            assert packs == expected_packs
            assert torch.equal(got, expected)
        else:
            assert len(packs) > len(expected_packs)
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
