"""Policies aligned with transferred reward models, end to end on a tiny model: what is added, what it leaves alone, what it says."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from test_reruns import files_of, sections, told
from test_workflow import CONFIG, ROOT, changed, jobs, run_study, snakemake
from transformers import AutoModelForCausalLM

from rmtransfer.alignment.evaluation import COLUMNS

pytestmark = pytest.mark.slow

JUDGE = {"kind": "judge", "mode": "pairwise", "path": "talker", "max_new_tokens": 4}
ALIGNED = changed(
    held_out_instructions={"path": "held_out.jsonl"},
    reward_models={"talker": JUDGE, "longer": {"kind": "length", "unit": "characters"}},
    alignment={
        "methods": ["dpo", "sft"],
        "judges": ["talker", "longer"],
        "constraints": "resources/sample/constraints/{language}.jsonl",
        "training": {"learning_rate": 1e-3, "pairs_per_step": 2, "max_length": 512},
    },
)
POLICIES = [f"llama/{method}/llama/{train}/seed0" for method in ("dpo", "sft") for train in ("en", "in-language")]
FOLDER = "results/tiny/alignment"


def add_alignment(folder: Path) -> None:
    """What ``ALIGNED`` reads and ``CONFIG`` does not."""
    lines = (
        (ROOT / "resources/sample/held_out_instructions.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    )
    (folder / "held_out.jsonl").write_text("".join(lines[:8]), encoding="utf-8")
    shutil.copytree(folder / "tiny", folder / "talker")  # which reads two answers and a question about them
    config = json.loads((folder / "tiny/config.json").read_text())
    (folder / "talker/config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))


def run_alignment(folder: Path) -> None:
    add_alignment(folder)
    first = snakemake(folder, ALIGNED, "results/tiny/corpus/held_out_instructions.ids.jsonl")
    assert first.returncode == 0, first.stdout
    (folder / "waiting.json").write_text(json.dumps(sorted(jobs(folder, ALIGNED))))
    done = snakemake(folder, ALIGNED)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def finished(shared, tmp_path) -> Path:
    def run(folder: Path) -> None:
        shutil.copytree(shared("finished", run_study), folder, symlinks=True, dirs_exist_ok=True)
        run_alignment(folder)

    return shutil.copytree(shared("aligned", run), tmp_path / "study", symlinks=True)


def test_aligning_adds_to_a_finished_study_and_trains_and_scores_nothing_of_it_again(finished):
    waiting = json.loads((finished / "waiting.json").read_text())
    parts = ("held_out_instructions", "constraints")
    expected = {f"align_policy {policy}" for policy in POLICIES} | {f"measure_drift {policy}" for policy in POLICIES}
    expected |= {f"sample_answers {writer} {parts[0]}" for writer in ("llama", *POLICIES)}
    expected |= {f"answer_constraints {writer} {parts[1]}" for writer in ("llama", *POLICIES)}
    expected |= {f"score_answers llama/{train}/seed0 llama {parts[0]}" for train in ("en", "es")}
    judges = ("llama/en/seed0", "llama/es/seed0", "talker", "longer")
    expected |= {f"judge_comparisons {judge} llama" for judge in judges}
    added = {"score talker sample", "score longer sample"}  # the two new reward models, on the benchmark
    missing = (expected | added) - set(waiting)
    assert missing == set()
    of_models = (
        "train_reward_model",
        "score_with_states",
        "embed_base",
        "prepare",
        "sample_answers llama instructions",
    )
    assert [job for job in waiting if job.startswith(of_models)] == []
    assert jobs(finished, ALIGNED) == set()


def test_the_table_has_a_row_for_each_policy_selector_judge_language_and_measure(finished):
    table = pd.read_csv(finished / "results/tiny/tables/alignment.csv", keep_default_na=False)
    assert list(table.columns) == list(COLUMNS)
    rates = table[table["measure"] == "win_rate"]
    assert set(rates["method"]) == {"dpo", "sft", "best-of-n"}
    assert set(rates["language"]) == {"en", "es", "targets"}
    assert dict(rates[["judge", "relation"]].drop_duplicates().to_numpy()) == {
        "llama": "sibling",
        "talker": "independent",
        "longer": "baseline",
    }
    assert {"kl", "in_language", "repetition", "strict_prompt_accuracy", "proxy_gain", "off_format"} <= set(
        table["measure"]
    )
    own = table[(table["method"] == "base") & (table["measure"] == "strict_prompt_accuracy")]
    assert list(own["items"].astype(int)) == [16, 16]
    constraints = pd.read_csv(finished / "results/tiny/tables/constraints.csv")
    assert {"llama", *POLICIES} <= set(constraints["writer"])
    for figure in ("win_rates", "over_optimisation", "constraints"):
        assert (finished / f"results/tiny/figures/{figure}.pdf").is_file()
    page = (finished / "results/tiny/figures/sample_answers.html").read_text(encoding="utf-8")
    held_out = json.loads((finished / "held_out.jsonl").read_text(encoding="utf-8").splitlines()[0])["prompt"]
    assert page.count(held_out) == 2  # itself, and as the gloss of its translation
    assert "DPO, in-language" in page


def test_an_aligned_policy_loads_anywhere_and_says_what_it_is(finished):
    for policy in POLICIES:
        folder = finished / FOLDER / "policies" / policy
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["selector"] == policy.split("/", 2)[2]
        assert manifest["pairs"] <= sum(these["pairs"] for these in manifest["instructions"].values())
        assert AutoModelForCausalLM.from_pretrained(folder).config.model_type == "llama"
    logs = finished / "results/tiny/logs"
    assert not (finished / "results/tiny/.work/training").exists()
    assert "reloaded from disk and read again" in (logs / f"align_policy/{POLICIES[0]}.log").read_text()


def test_another_beta_aligns_again_and_a_best_of_n_is_not_sampled_again(finished):
    training = {**ALIGNED["alignment"]["training"], "beta": 0.5}
    found = jobs(finished, {**ALIGNED, "alignment": {**ALIGNED["alignment"], "training": training}})
    assert {job for job in found if job.startswith("align_policy")} == {f"align_policy {policy}" for policy in POLICIES}
    assert not [
        job for job in found if job.startswith(("train_reward_model", "sample_answers llama ", "score_answers"))
    ]


def test_another_learning_rate_and_back_brings_the_aligned_policies_back(finished):
    policies = finished / FOLDER / "policies"
    before = files_of(policies)
    training = {**ALIGNED["alignment"]["training"], "learning_rate": 2e-3}
    faster = {**ALIGNED, "alignment": {**ALIGNED["alignment"], "training": training}}
    shown = sections(told(finished, faster))
    jobs_of = f"{len(POLICIES)} align_policy"
    assert shown["because alignment.training.learning_rate was 0.001 and is 0.002:"] == [jobs_of]
    assert list(shown)[-1] == f"kept: {len(POLICIES)} models that this run replaces stay in results/tiny/.work/kept"
    wanted = [f"{FOLDER}/policies/{policy}" for policy in POLICIES]
    done = snakemake(finished, faster, *wanted)
    assert done.returncode == 0, done.stdout
    assert files_of(policies) != before

    shown = sections(told(finished, ALIGNED))
    assert shown["because alignment.training.learning_rate was 0.002 and is 0.001:"] == [
        jobs_of,
        "all of them come back from what is kept, and what was scored of them",
    ]
    listed = told(finished, ALIGNED, "kept")
    assert len(re.findall(r"policies/llama/\S+/\w{16}  alignment.training.learning_rate: 0.001$", listed, re.M)) == 4
    done = snakemake(finished, ALIGNED, *wanted)
    assert done.returncode == 0, done.stdout
    assert len(re.findall(r"\[align_policy \S+\] made before .*: taken from", done.stdout)) == len(POLICIES)
    assert files_of(policies) == before


def test_a_judge_is_asked_nothing_twice(finished):
    """Even where everything but its judgements is lost."""
    for path in (f"{FOLDER}/verdicts/talker", "results/tiny/.work/scores"):
        for file in (finished / path).rglob("*.parquet"):
            file.unlink()
    done = snakemake(finished, ALIGNED, f"{FOLDER}/verdicts/talker/llama/es.parquet")
    assert done.returncode == 0, done.stdout
    assert "[judge_comparisons talker llama]" in done.stdout
    assert "judging es" not in done.stdout


def test_instructions_that_are_aligned_on_are_not_evaluated_on(finished):
    rows = (finished / "instructions.jsonl").read_text(encoding="utf-8").splitlines()
    twice = {"id": "other", "prompt": json.loads(rows[0])["prompt"].upper() + "!"}
    with (finished / "held_out.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(twice) + "\n")
    done = snakemake(finished, ALIGNED)
    assert done.returncode
    assert "held_out_instructions: 1 of 9 rows are among the instructions that policies are aligned on" in done.stdout
    assert "'other'" in done.stdout
    assert "translating" not in done.stdout  # before anything is paid for


def test_a_policy_may_be_an_adapter_on_a_base(finished):
    """An untrained adapter changes nothing: the policy's own answers are the base's."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(finished / "tiny"), LoraConfig(r=2, target_modules=["q_proj"])
    )
    model.save_pretrained(finished / "adapter")
    config = {**ALIGNED, "policies": {"tuned": {"path": "llama", "adapter": "adapter"}}}
    answers = f"{FOLDER}/answers/{{}}/instructions/es.parquet"
    done = snakemake(finished, config, answers.format("tuned"))
    assert done.returncode == 0, done.stdout
    assert "prepare_policy" in done.stdout
    mine, theirs = (pd.read_parquet(finished / answers.format(policy)) for policy in ("tuned", "llama"))
    assert mine["answer"].map(str).tolist() == theirs["answer"].map(str).tolist()
    manifest = json.loads((finished / "results/tiny/base_models/tuned/manifest.json").read_text())
    assert manifest["source"]["adapter"] == "adapter"


def test_a_policy_without_a_template_is_refused_before_anything_is_translated(finished):
    folder = finished / "plain"
    shutil.copytree(finished / "tiny", folder)
    (folder / "chat_template.jinja").unlink()
    config = {**ALIGNED, "study": "other", "policies": {"plain": {"path": "plain"}}}
    done = snakemake(finished, config)
    assert done.returncode
    assert re.search(
        r"policies\.plain.* has no chat template; name a Jinja file in policies\.plain\.chat_template", done.stdout
    )
    assert not (finished / "results/other/translations/es/instructions.parquet").exists()


def test_config_is_as_before_without_any_of_it():
    assert "held_out_instructions" not in CONFIG
