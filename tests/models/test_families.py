"""Every family that is served gives what plain transformers gives, one text at a time; the others are refused by name."""

import json

import pytest
import torch
import transformers
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import families as survey
from conftest import build_tokenizer
from decoders import widen
from rmtransfer.kit.errors import StudyError
from rmtransfer.models import chat, families, reward
from rmtransfer.models.base import prepare_base_model
from rmtransfer.models.fit import without_dropout
from trainings import RECIPE, train

# No class of transformers' own (cohere, granite, xglm), blocks by other names (bloom, gpt2, opt), a tower in a larger model, and
# layers none of which attends (the smallest jamba).
SERVED = ["bloom", "gpt2", "opt", "cohere", "granite", "xglm", "gemma3", "jamba"]


def save(folder, family, **changes):
    """A checkpoint with a tokenizer, as anybody would save it."""
    tokenizer = build_tokenizer("qwen")
    config = survey.small(family, max_position_embeddings=512, n_positions=512)
    text = config.get_text_config()
    text.vocab_size = 460
    for name, value in changes.items():
        setattr(text, name, value)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    widen(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def prepare(tmp_path, **options):
    prepare_base_model({"path": "in", **options}, "m", tmp_path, tmp_path / "base")
    return tmp_path / "base"


def alone(model, ids):
    return model(input_ids=torch.tensor([ids]), use_cache=False)


@pytest.mark.parametrize("family", SERVED)
def test_reward_loss_and_state_are_those_of_plain_transformers(tmp_path, family, pairs):
    original = save(tmp_path / "in", family)
    base = prepare(tmp_path)
    tokenizer = chat.load_tokenizer(base)
    texts = [chat.encode_answer(tokenizer, p["prompt"], p[side]) for p in pairs for side in ("chosen", "rejected")]
    with torch.inference_mode():
        # the base: what it was, and its states
        logits = alone(AutoModelForCausalLM.from_pretrained(base), texts[0]).logits
        torch.testing.assert_close(logits, alone(original, texts[0]).logits, atol=1e-4, rtol=0)
        backbone = AutoModel.from_pretrained(base).eval()
        states = torch.stack([alone(backbone, ids).last_hidden_state[0, -1] for ids in texts])
        ours = reward.embed(reward.load_backbone(base, torch.device("cpu")), texts, 100)
        torch.testing.assert_close(ours, states, atol=1e-4, rtol=1e-4)
        # the first step's loss: of the model as it is before it
        start = reward.build_reward_model(base, 0).eval()
        rewards = torch.cat([alone(start, ids).logits[0] for ids in texts])
        expected = -torch.nn.functional.logsigmoid(rewards[0::2] - rewards[1::2]).mean().item()
    recipe = {**RECIPE, "epochs": 2, "pairs_per_step": len(pairs)}
    trained = train(base, pairs, tmp_path, recipe=recipe).eval()
    log = (tmp_path / "out" / "training_log.csv").read_text().splitlines()
    loss = float(dict(zip(log[0].split(","), log[1].split(","), strict=True))["loss"])
    assert loss == pytest.approx(expected, abs=1e-4)
    with torch.inference_mode():
        rewards = torch.cat([alone(trained, ids).logits[0] for ids in texts])
        loaded = reward.load_reward_model(tmp_path / "out", torch.device("cpu"))
        torch.testing.assert_close(reward.score(loaded, texts, 100)[0], rewards, atol=1e-4, rtol=1e-4)
    assert rewards.std() > 0.01
    moved = [n for n, p in trained.named_parameters() if not torch.equal(p, dict(start.named_parameters())[n])]
    assert "score.weight" in moved
    _, blocks = families.blocks_of(start.base_model)
    frozen = {id(p) for p in [*blocks[0].parameters(), *start.get_input_embeddings().parameters()]}
    assert frozen
    assert not any(id(p) in frozen for n, p in start.named_parameters() if n in moved)
    # and as its card says, with the class from its folder
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", trust_remote_code=True).eval()
    assert type(theirs).__module__.startswith("transformers_modules") == families.needs_code(theirs.config)
    assert ("trust_remote_code=True" in (tmp_path / "out" / "README.md").read_text()) == families.needs_code(
        theirs.config
    )
    with torch.inference_mode():
        theirs = theirs(torch.tensor([texts[0]])).logits[0, 0]
        torch.testing.assert_close(theirs, rewards[0], atol=1e-5, rtol=0)


def refuse(tmp_path, words):
    with pytest.raises(StudyError, match=words):
        prepare(tmp_path)
    assert not (tmp_path / "base" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("roberta", r"model_type roberta\): it is no causal language model"),
        ("bart", r"model_type bart\): BartForSequenceClassification has no linear head named score"),
        (
            "modernbert-decoder",
            r"model_type modernbert-decoder\): .* has no linear head named score",
        ),  # whose pad id is a number
        (
            "mamba",
            r"model_type mamba\): MambaForSequenceClassification, a linear head on its backbone, fails on a short text",
        ),
        ("pegasus", r"model_type pegasus\): .* has another backbone than PegasusForCausalLM"),
    ],
)
def test_a_family_that_is_not_served(tmp_path, family, words):
    save(tmp_path / "in", family)
    refuse(tmp_path, words)


def test_weights_that_are_no_numbers(tmp_path):
    model = save(tmp_path / "in", "llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = torch.nan
    model.save_pretrained(tmp_path / "in")
    refuse(tmp_path, r"base_models.m.path: .*'in' .*not all finite numbers \(model.layers.1.mlp.up_proj.weight\)")


def test_a_classifier_is_no_base(tmp_path):
    save(tmp_path / "in", "llama", tie_word_embeddings=False)
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "in", num_labels=1).save_pretrained(tmp_path / "in")
    refuse(tmp_path, r"not a causal language model .*LlamaForSequenceClassification\): it holds no lm_head.weight")


def test_a_template_of_tokens_that_the_model_does_not_know(tmp_path):
    save(tmp_path / "in", "llama", vocab_size=200)
    refuse(tmp_path, r"base_models.m: what the chat template renders holds token \d+, and the model knows 200 tokens")


def test_a_pad_token_beyond_the_table(tmp_path):
    tokenizer = build_tokenizer("llama")
    held = len(tokenizer)
    save(tmp_path / "in", "llama", vocab_size=held)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == held
    tokenizer.save_pretrained(tmp_path / "in")
    base = prepare(tmp_path)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("[PAD]", held)
    assert model.get_input_embeddings().num_embeddings == held + 1
    assert json.loads((base / "config.json").read_text())["pad_token_id"] == held


@pytest.mark.parametrize("family", ["bloom", "cohere", "gemma3", "roberta"])
def test_the_page_says_what_is_so(family):
    """The rest of it takes minutes: python tests/families.py."""
    page = survey.TABLE.read_text(encoding="utf-8")
    assert f"from transformers {transformers.__version__}:" in page
    assert survey.row(family, survey.serve(family)) in page.splitlines()


def test_dropout_is_off_however_a_family_draws_it():
    model = AutoModel.from_config(survey.small("opt", dropout=0.5, attention_dropout=0.5)).train()
    without_dropout(model)
    ids = torch.tensor([[5, 6, 7, 8]])
    states = [model(input_ids=ids).last_hidden_state for _ in range(2)]
    assert torch.equal(*states)


def test_a_package_that_a_family_needs(tmp_path, monkeypatch):
    def lacking(*_, **__):
        raise ImportError("TimmWrapperModel requires the timm library")

    save(tmp_path / "in", "llama")
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lacking)
    refuse(tmp_path, r"needs a package that is not here \(TimmWrapperModel requires the timm library\); install it")


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("family", ["gpt2", "cohere"])
def test_an_adapter(tmp_path, family, merge, pairs):
    """GPT-2's products are no Linear and its blocks are called h; a base without a class of transformers brings ours."""
    save(tmp_path / "in", family)
    base = prepare(tmp_path)
    adapter = {"rank": 2, "alpha": 4, "dropout": 0.0, "target_modules": "all-linear", "merge": merge}
    train(base, pairs, tmp_path, recipe={**RECIPE, "epochs": 2, "pairs_per_step": len(pairs), "adapter": adapter})
    texts = [chat.encode_answer(chat.load_tokenizer(base), p["prompt"], p["chosen"]) for p in pairs]
    loaded = reward.load_reward_model(tmp_path / "out", torch.device("cpu"))
    scored = reward.score(loaded, texts, 100)[0]
    loaded.set_attn_implementation("sdpa")
    start = reward.build_reward_model(base, 0).eval()
    with torch.inference_mode():
        plain = torch.cat([alone(loaded, ids).logits[0] for ids in texts])
        before = torch.cat([alone(start, ids).logits[0] for ids in texts])
    torch.testing.assert_close(scored, plain, atol=1e-4, rtol=1e-4)
    assert (plain - before).abs().max() > 1e-4
