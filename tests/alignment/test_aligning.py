"""TRL's DPOTrainer as the reference, losses by hand, and a resumed alignment equal to an undisturbed one."""

import copy
import json
import math
import re
import shutil

import pandas as pd
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

import families as survey
from conftest import build_tokenizer
from decoders import widen
from rmtransfer.alignment import aligning
from rmtransfer.alignment.aligning import align_policy
from rmtransfer.alignment.pairs import Choice
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.manifest import digest_folder, read_manifest, write_manifest
from rmtransfer.models import chat, fit, shards, steps
from rmtransfer.models.base import prepare_base_model
from rmtransfer.models.trunk import Trunk
from rmtransfer.scoring.job import Outputs, score
from rmtransfer.scoring.reward_model import TrunkStore
from trainings import parameters

RECIPE = {
    "learning_rate": 1e-3,
    "epochs": 2,
    "pairs_per_step": 2,
    "warmup_ratio": 0.1,
    "beta": 0.3,
    "max_length": 512,
    "freeze_embeddings": False,
    "frozen_layers": 0,
    "optimizer": "adamw",
}
CARD = {"policy": "tiny", "method": "dpo", "selector": "tiny/en/seed0", "languages": "en"}
ADAPTER = {"kind": "lora", "rank": 4, "alpha": 8.0, "dropout": 0.0, "target_modules": "all-linear", "merge": True}

# As RECIPE says.
STOCK = {
    "learning_rate": 1e-3,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 2,
    "warmup_steps": 0.1,
    "lr_scheduler_type": "cosine",
    "seed": 0,
    "beta": 0.3,
    "max_length": None,
    "bf16": False,
    "use_cpu": True,
    "gradient_checkpointing": False,
    "save_strategy": "no",
    "logging_steps": 1,
    "report_to": "none",
    "disable_tqdm": True,
}


@pytest.fixture(scope="module")
def preferred(pairs) -> list[Choice]:
    return [Choice(p["id"], "en", p["prompt"], p["chosen"], p["rejected"], (True, True)) for p in pairs]


def align(base, choices, tmp_path, name="out", method="dpo", recipe=RECIPE, **options):
    output = tmp_path / name
    align_policy(
        base,
        choices,
        {"en": {"pairs": len(choices), "alike": 3}},
        recipe,
        method,
        0,
        output,
        tmp_path / "work",
        card={**CARD, "method": method},
        device="cpu",
        **{"tokens_per_batch": 10_000, "checkpoint_minutes": 10, **options},
    )
    return AutoModelForCausalLM.from_pretrained(output)


def histories_of(monkeypatch) -> list:
    found: list = []
    log = aligning._log
    monkeypatch.setattr(aligning, "_log", lambda history: (found.append(history), log(history))[1])
    return found


def stock_trainer(model, reference, choices, base, tmp_path, **otherwise):
    """TRL's own, which tokenises conversations itself."""
    return DPOTrainer(
        model=model,
        ref_model=reference,
        args=DPOConfig(output_dir=str(tmp_path / "stock"), **{**STOCK, **otherwise}),
        train_dataset=Dataset.from_list(
            [{"prompt": c.prompt, "chosen": c.chosen, "rejected": c.rejected} for c in choices]
        ),
        processing_class=chat.load_tokenizer(base),
    )


def test_equals_stock_trl(base, preferred, tmp_path, monkeypatch):
    """The same steps on the same batches: losses, implicit rewards, gradients and weights."""
    histories = histories_of(monkeypatch)
    ours = align(base, preferred, tmp_path, tokens_per_batch=64)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = parameters(model)
    stock = stock_trainer(model, copy.deepcopy(model), preferred, base, tmp_path)
    stock.train()
    theirs = [entry for entry in stock.state.log_history if "loss" in entry]
    mine = [entry for entry in histories[0] if "loss" in entry]
    names = {"loss": "loss", "grad_norm": "grad_norm", "accuracy": "rewards/accuracies", "margin": "rewards/margins"}
    assert len(mine) == len(theirs) == 12
    print("largest difference of a loss", max(abs(a["loss"] - b["loss"]) for a, b in zip(mine, theirs, strict=True)))
    assert [e["loss"] for e in mine] == pytest.approx([e["loss"] for e in theirs], rel=1e-5)
    for name, their in names.items():
        got, expected = [e[name] for e in mine], [e[their] for e in theirs]
        torch.testing.assert_close(torch.tensor(got), torch.tensor(expected), rtol=1e-3, atol=1e-4)
    moved = (parameters(model) - before).abs().max().item()
    assert (parameters(ours) - parameters(model)).abs().max().item() < 0.01 * moved


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen head", "trained head"])
def test_gradients_of_dpo_are_stock_trls(base, preferred, tmp_path, monkeypatch, frozen):
    """One batch, before any optimiser, with a reference that is another model, so that pairs have margins."""
    other = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    tokenizer = chat.load_tokenizer(base)
    read = {c.id: [likelihood(other, tokenizer, c, side)[0] for side in ("chosen", "rejected")] for c in preferred}
    reference = [value for c in preferred for value in read[c.id]]
    monkeypatch.setattr(aligning, "_reference", lambda *_: reference)
    taken = {}

    class Taken(Exception):  # noqa: N818
        pass

    def take(name, step):
        def training_step(trainer, model, *arguments, **named):
            taken[name] = step(trainer, model, *arguments, **named).item(), gradients_of(trainer), logged_of(trainer)
            raise Taken

        return training_step

    def gradients_of(trainer):
        return {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}

    def logged_of(trainer):
        return {name: values[-1] for name, values in trainer._metrics["train"].items()}

    recipe = {**RECIPE, "pairs_per_step": 12, "freeze_embeddings": frozen}
    monkeypatch.setattr(aligning.PackTrainer, "training_step", take("ours", aligning.PackTrainer.training_step))
    with pytest.raises(Taken):
        align(base, preferred, tmp_path, recipe=recipe, tokens_per_batch=64)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if frozen:
        model.get_input_embeddings().requires_grad_(False)
    monkeypatch.setattr(DPOTrainer, "training_step", take("stock", DPOTrainer.training_step))
    with pytest.raises(Taken):
        stock_trainer(model, other, preferred, base, tmp_path, per_device_train_batch_size=12).train()
    (loss, got, logged), (expected_loss, expected, stock_logged) = taken["ours"], taken["stock"]
    assert abs(expected_loss - math.log(2)) > 0.01
    margins = [read[c.id][0] - read[c.id][1] for c in preferred]
    assert max(margins) - min(margins) > 0.1
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    names = {"margin": "rewards/margins", "accuracy": "rewards/accuracies"}
    assert [logged[n] for n in names] == pytest.approx([stock_logged[n] for n in names.values()], rel=1e-5, abs=1e-6)
    assert got.keys() == expected.keys()
    ours, theirs = (torch.cat([grads[name].flatten() for name in sorted(grads)]) for grads in (got, expected))
    difference = ((ours - theirs).norm() / theirs.norm()).item()
    print(f"loss {abs(loss / expected_loss - 1):.1e}, gradient {difference:.1e}, relative")
    assert difference < 1e-5


def likelihood(model, tokenizer, choice, side):
    """log p(answer | prompt) by the stock model, and its number of tokens; by hand."""
    prompt = chat.encode(tokenizer, choice.prompt, add_generation_prompt=True)
    ids = chat.encode_answer(tokenizer, choice.prompt, getattr(choice, side))
    assert ids[: len(prompt)] == prompt
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(logits[i - 1, ids[i]].item() for i in range(len(prompt), len(ids))), len(ids) - len(prompt)


def test_the_first_losses_by_hand(bases, preferred, tmp_path, monkeypatch):
    """Before anything is learnt policy and reference are the same, so that dpo starts at log 2, and sft at the mean NLL."""
    base, two = bases["qwen"], preferred[:2]
    histories = histories_of(monkeypatch)
    one_step = {**RECIPE, "epochs": 1}
    align(base, two, tmp_path, "dpo", recipe=one_step)
    align(base, two, tmp_path, "sft", "sft", one_step)
    dpo, sft = (next(entry["loss"] for entry in history if "loss" in entry) for history in histories)
    assert dpo == pytest.approx(math.log(2), abs=1e-5)
    tokenizer = chat.load_tokenizer(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    read = [likelihood(model, tokenizer, choice, "chosen") for choice in two]
    assert sft == pytest.approx(-sum(p for p, _ in read) / sum(n for _, n in read), rel=1e-5)


def test_fine_tuning_equals_stock_trl(base, preferred, tmp_path, monkeypatch):
    """The same steps on the same batches as TRL's SFTTrainer on prompts with the chosen answers."""
    histories = histories_of(monkeypatch)
    align(base, preferred, tmp_path, method="sft", tokens_per_batch=64)
    arguments = {name: value for name, value in STOCK.items() if name != "beta"}
    stock = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        args=SFTConfig(output_dir=str(tmp_path / "stock"), **arguments),
        train_dataset=Dataset.from_list([{"prompt": c.prompt, "completion": c.chosen} for c in preferred]),
        processing_class=chat.load_tokenizer(base),
    )
    stock.train()
    mine, theirs = ([e for e in history if "loss" in e] for history in (histories[0], stock.state.log_history))
    assert len(mine) == len(theirs) == 12
    print(
        "largest relative difference of a loss",
        max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(mine, theirs, strict=True)),
    )
    assert [e["loss"] for e in mine] == pytest.approx([e["loss"] for e in theirs], rel=1e-5)
    assert [e["grad_norm"] for e in mine] == pytest.approx([e["grad_norm"] for e in theirs], rel=1e-3)


def test_what_is_preferred_becomes_likelier(base, preferred, tmp_path):
    tokenizer, policy = chat.load_tokenizer(base), AutoModelForCausalLM.from_pretrained(base)
    for method in ("dpo", "sft"):
        aligned = align(base, preferred, tmp_path, method, method)
        gains = {
            side: sum(
                likelihood(aligned, tokenizer, c, side)[0] - likelihood(policy, tokenizer, c, side)[0]
                for c in preferred
            )
            for side in ("chosen", "rejected")
        }
        assert gains["chosen"] > gains["rejected"]
        assert method == "dpo" or gains["chosen"] > 0


class KilledError(Exception):
    pass


@pytest.mark.parametrize("method", ["dpo", "sft"])
def test_killed_and_resumed_is_undisturbed(bases, preferred, tmp_path, monkeypatch, method, capsys):
    """The reference is the policy before the first step, after a kill as well."""
    base = bases["llama"]
    whole = parameters(align(base, preferred, tmp_path, "whole", method, checkpoint_minutes=10))
    taken = []
    step = aligning.PackTrainer.training_step if method == "dpo" else aligning.FineTuning.training_step
    owner = aligning.PackTrainer if method == "dpo" else aligning.FineTuning

    def killed(trainer, *arguments, **named):
        taken.append(trainer)
        if len(taken) == 8:
            raise KilledError
        return step(trainer, *arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(owner, "training_step", killed)
        with pytest.raises(KilledError):
            align(base, preferred, tmp_path, "again", method, checkpoint_minutes=0)
    assert not (tmp_path / "again/manifest.json").exists()
    capsys.readouterr()
    again = parameters(align(base, preferred, tmp_path, "again", method, checkpoint_minutes=0))
    assert "going on from checkpoint-7" in capsys.readouterr().out
    assert torch.equal(whole, again)
    assert not (tmp_path / "work").exists()


def test_a_trunk_changes_nothing(bases, preferred, tmp_path):
    recipe = {**RECIPE, "freeze_embeddings": True, "frozen_layers": 2}
    without = parameters(align(bases["gemma"], preferred, tmp_path, "without", recipe=recipe))
    store = {"trunk_store": tmp_path / "trunk", "trunk_gigabytes": 1}
    with_it = parameters(align(bases["gemma"], preferred, tmp_path, "with", recipe=recipe, **store))
    assert list((tmp_path / "trunk").rglob("*.safetensors"))
    start = parameters(AutoModelForCausalLM.from_pretrained(bases["gemma"]))
    assert (without - start).abs().max() > 0
    assert (without - with_it).abs().max() < 0.01 * (without - start).abs().max()


def test_what_frozen_layers_make_of_an_answer_is_computed_once_for_policy_and_reference(
    bases, preferred, pairs, tmp_path, monkeypatch
):
    base = shutil.copytree(bases["gemma"], tmp_path / "base")
    write_manifest(base, {})
    align(base, preferred, tmp_path, recipe={**RECIPE, "freeze_embeddings": True, "frozen_layers": 2})
    assert read_manifest(tmp_path / "out")["trunk"] == {"base": digest_folder(base), "layers": 2}
    options = {"kind": "implicit", "policy": str(tmp_path / "out"), "reference": str(base), "beta": 1.0}
    limits = {"tokens_per_batch": 256, "requests_at_once": 1, "device": "cpu"}
    compute, computed = Trunk._compute, []

    def counted(self, groups):
        computed.extend(groups)
        return compute(self, groups)

    monkeypatch.setattr(Trunk, "_compute", counted)
    drift = {}
    for name, trunk in {"whole": None, "parts": TrunkStore(tmp_path / "trunk", 1, 2)}.items():
        outputs = Outputs(scores={"en": tmp_path / f"{name}.parquet"})
        score(options, "x", {"en": pairs}, outputs, tmp_path / name, **limits, trunk=trunk)
        drift[name] = pd.read_parquet(tmp_path / f"{name}.parquet")["reward_chosen"].to_numpy()
    assert drift["parts"] == pytest.approx(drift["whole"], abs=1e-4)
    assert abs(drift["whole"]).max() > 1e-3
    both = [*computed]
    computed.clear()
    options = {"kind": "likelihood", "path": str(base)}
    outputs, store = Outputs(scores={"en": tmp_path / "base.parquet"}), TrunkStore(tmp_path / "again", 1, 2)
    score(options, "x", {"en": pairs}, outputs, tmp_path / "base_alone", **limits, trunk=store)
    assert both == computed != []


def test_frozen_tensors_are_the_policys_own_files(bases, preferred, tmp_path):
    base = shutil.copytree(bases["gemma"], tmp_path / "base")
    shards.reshard(base)  # as a policy is prepared
    write_manifest(base, {})
    align(base, preferred, tmp_path, recipe={**RECIPE, "freeze_embeddings": True, "frozen_layers": 2})
    nodes = {path.stat().st_ino for path in base.glob("*.safetensors")}
    shared = [path for path in (tmp_path / "out").glob("*.safetensors") if path.stat().st_ino in nodes]
    assert len(shared) >= 3  # the table and two blocks


def test_an_adapter_is_saved_in_the_weights(base, preferred, tmp_path):
    """What is trained is read from disk again, by another object, and compared within the training itself."""
    aligned = align(base, preferred, tmp_path, recipe={**RECIPE, "adapter": ADAPTER})
    start = AutoModelForCausalLM.from_pretrained(base)
    moved = {
        name
        for (name, p), q in zip(aligned.named_parameters(), start.parameters(), strict=True)
        if not torch.equal(p, q)
    }
    assert moved
    assert all("_proj" in name for name in moved)
    assert not (tmp_path / "out/adapter_config.json").exists()


def test_an_answer_that_was_cut_off_teaches_no_end(base, preferred):
    tokenizer = chat.load_tokenizer(base)
    choice = preferred[3]
    ended, cut = (chat.encode_answer(tokenizer, choice.prompt, choice.chosen, ended=end) for end in (True, False))
    assert ended[: len(cut)] == cut
    assert tokenizer.decode(cut).rstrip().endswith(choice.chosen[0]["content"].strip())
    assert set(ended[len(cut) :]) & {tokenizer.eos_token_id, *tokenizer.all_special_ids}


@pytest.mark.parametrize("text", ["im", "end", "model", "ot", "</s>"])
def test_an_answer_that_is_part_of_a_turns_end_is_cut_where_it_ends(base, preferred, text):
    tokenizer = chat.load_tokenizer(base)
    prompt = preferred[0].prompt
    cut = chat.encode_answer(tokenizer, prompt, [{"role": "assistant", "content": text}], ended=False)
    asked = chat.encode(tokenizer, prompt, add_generation_prompt=True)
    assert cut == asked + tokenizer(text, add_special_tokens=False)["input_ids"]


def test_nothing_that_was_cut_off_is_left_out_and_nothing_that_ended_is_an_answer(bases, preferred, tmp_path):
    nothing = [{"role": "assistant", "content": ""}]
    cut, ended = (preferred[i]._replace(rejected=nothing, finished=(True, i == 1)) for i in (0, 1))
    align(bases["gemma"], [cut, ended, preferred[2]], tmp_path)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (manifest["pairs"], manifest["left_out"]["no_tokens"]) == (2, 1)


def test_a_template_that_renders_the_prompt_otherwise_once_it_is_answered(bases, preferred, tmp_path):
    """Nobody can tell then where an answer starts, and prompts would be trained on."""
    base = shutil.copytree(bases["gemma"], tmp_path / "base")
    template = chat.load_tokenizer(base).chat_template
    late = "{{ bos_token }}{% if messages[-1]['role'] == 'user' %}Please answer at length: {% endif %}"
    (base / "chat_template.jinja").write_text(template.replace("{{ bos_token }}", late))
    with pytest.raises(
        StudyError, match=r"policies\.tiny: the chat template renders the prompt of row 'r0' in en other"
    ):
        align(base, preferred, tmp_path)


def test_reference_and_training_are_of_one_precision_and_the_saved_policy_is_of_fp32(
    bases, preferred, tmp_path, monkeypatch
):
    """What a GPU does, with the CPU's autocast. After training, the model is read as it is loaded: in fp32."""
    stock, read = fit.RewardConfig, aligning.answer_log_likelihoods
    seen = []
    monkeypatch.setattr(fit, "RewardConfig", lambda **arguments: stock(**{**arguments, "bf16": True}))
    monkeypatch.setattr(aligning, "train_with_onednn", lambda *_: None)
    monkeypatch.setattr(
        aligning,
        "answer_log_likelihoods",
        lambda *a: (seen.append((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"))), read(*a))[1],
    )
    align(bases["llama"], preferred, tmp_path)
    kinds = [kind for kind, before in zip(seen, [None, *seen], strict=False) if kind != before]
    assert kinds == [(False, True), (True, True), (False, False)]


def test_the_reference_is_computed_once(bases, preferred, tmp_path, monkeypatch, capsys):
    def killed(*_, **__):
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(aligning.PackTrainer, "training_step", killed)
        with pytest.raises(KilledError):
            align(bases["llama"], preferred, tmp_path)
    assert "as the reference" in capsys.readouterr().out
    align(bases["llama"], preferred, tmp_path)
    assert "as the reference" not in capsys.readouterr().out
    assert not (tmp_path / "work").exists()


BAD_RECIPES = {
    "alignment.training.frozen_layers: 9 is more than the 3 layers": {"frozen_layers": 9},
    "alignment.training.max_length: 600 is more than the 512 tokens": {"max_length": 600},
    "alignment.training.optimizer: adamw_8bit needs a GPU": {"optimizer": "adamw_8bit"},
    "alignment.training.adapter: alignment.training.frozen_layers: 3 leaves no block": {
        "frozen_layers": 3,
        "adapter": ADAPTER,
    },
    "alignment.training.adapter.target_modules: the base model has no layer nowhere": {
        "adapter": {**ADAPTER, "target_modules": ["nowhere"]}
    },
}


@pytest.mark.parametrize("message", BAD_RECIPES)
def test_bad_recipes_name_the_keys_of_alignment(bases, preferred, tmp_path, message):
    with pytest.raises(StudyError, match=re.escape(message)):
        align(bases["llama"], preferred, tmp_path, recipe={**RECIPE, **BAD_RECIPES[message]})


def test_divergence_is_said_at_its_step(bases, preferred, tmp_path, monkeypatch):
    def ruin(self, args, state, control, **kwargs):
        if state.global_step == 2:
            kwargs["model"].model.norm.weight.data.fill_(torch.inf)

    monkeypatch.setattr(steps.StepCount, "on_step_end", ruin, raising=False)
    with pytest.raises(StudyError, match=r"diverged: after step 2.*lower alignment\.training\.learning_rate, or raise"):
        align(bases["llama"], preferred, tmp_path)


@pytest.mark.parametrize("recompute", [True, False])
def test_too_little_memory_changes_nothing(bases, preferred, tmp_path, monkeypatch, recompute):
    whole = parameters(align(bases["qwen"], preferred, tmp_path, "whole"))
    read, left = aligning.answer_log_likelihoods, [3]

    def full(*arguments):
        if torch.is_grad_enabled() and left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("full")
        return read(*arguments)

    monkeypatch.setattr(aligning, "answer_log_likelihoods", full)
    if recompute:
        left[0] = 2
        again = parameters(align(bases["qwen"], preferred, tmp_path, "again"))
        torch.testing.assert_close(again, whole, atol=1e-5, rtol=0)
    else:
        with pytest.raises(StudyError, match=r"out of memory at .*alignment\.training\.max_length"):
            align(bases["qwen"], preferred, tmp_path, "again", gradient_checkpointing=False)


@pytest.mark.parametrize("family", ["gpt2", "cohere", "bloom", "granite"])
def test_families_of_every_kind(tmp_path, preferred, family):
    """No linear layers, logits that are scaled, no class of reward models, no packs."""
    tokenizer = build_tokenizer("qwen")
    config = survey.small(family, max_position_embeddings=512, n_positions=512, vocab_size=460)
    model = AutoModelForCausalLM.from_config(config)
    widen(model)
    model.save_pretrained(tmp_path / "in")
    tokenizer.save_pretrained(tmp_path / "in")
    base = tmp_path / "base"
    prepare_base_model({"path": "in"}, "tiny", tmp_path, base)
    short = {**RECIPE, "epochs": 1, "pairs_per_step": 6, "max_length": 500}
    aligned = align(base, preferred, tmp_path, recipe=short)
    assert not torch.equal(parameters(aligned), parameters(AutoModelForCausalLM.from_pretrained(base)))
    assert not list((tmp_path / "out").glob("*.py"))  # that a base brings is of reward models


def test_the_manifest_says_what_it_was_aligned_on(bases, preferred, tmp_path):
    long = preferred[0]._replace(chosen=[{"role": "assistant", "content": "long " * 120}])
    cut = preferred[1]._replace(finished=(False, True))
    align(bases["llama"], [long, cut, *preferred[2:4]], tmp_path, recipe={**RECIPE, "max_length": 100})
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (manifest["stage"], manifest["pairs"]) == ("align", 3)
    assert manifest["left_out"] == {"too_long": 1, "same_tokens": 0, "no_tokens": 0}
    assert manifest["instructions"] == {"en": {"pairs": 4, "alike": 3}}
    assert manifest["selector"] == "tiny/en/seed0"
    assert manifest["unfinished_chosen"] == 1
    log = pd.read_csv(tmp_path / "out/training_log.csv")
    assert list(log.columns) == list(aligning.LOG_COLUMNS)
    assert list(log["step"]) == [1, 2, 3, 4]
    assert "aligned by dpo with the reward model tiny/en/seed0" in (tmp_path / "out/README.md").read_text()


def test_nothing_to_prefer_is_one_clear_error(bases, tmp_path):
    with pytest.raises(StudyError, match=re.escape("tiny/en/seed0 prefers none of its answers")):
        align(bases["llama"], [], tmp_path)


def test_a_saved_policy_that_reads_otherwise_is_refused(bases, preferred, tmp_path, monkeypatch):
    save = aligning._save

    def damaged(model, *arguments):
        with torch.no_grad():
            next(model.parameters()).mul_(1.5)
        save(model, *arguments)

    monkeypatch.setattr(aligning, "_save", damaged)
    with pytest.raises(RuntimeError, match="reloaded from disk it gives log-likelihoods that differ by"):
        align(bases["llama"], preferred, tmp_path)
    assert not (tmp_path / "out/manifest.json").exists()


def test_what_a_template_drops_is_no_pair(bases, preferred, tmp_path):
    same = preferred[0]._replace(rejected=preferred[0].chosen)
    align(bases["llama"], [same, *preferred[1:3]], tmp_path)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (manifest["pairs"], manifest["left_out"]["same_tokens"]) == (2, 1)


def test_an_interrupted_alignments_state_is_not_another_ones(bases, preferred, tmp_path, monkeypatch):
    """Another beta goes on from nothing."""
    monkeypatch.setattr(shutil, "rmtree", lambda *a, **k: None)
    align(bases["llama"], preferred[:4], tmp_path, "a", checkpoint_minutes=0)
    align(bases["llama"], preferred[:4], tmp_path, "b", recipe={**RECIPE, "beta": 0.1}, checkpoint_minutes=0)
    assert len(list((tmp_path / "work").iterdir())) == 2
