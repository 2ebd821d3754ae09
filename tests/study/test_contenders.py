"""What the alignment stage makes of a study."""

import json
from pathlib import Path

import pytest
import yaml

from conftest import ROOT, name_model
from rmtransfer.kit.errors import StudyError
from rmtransfer.study.aligning import Aligning, Contender
from rmtransfer.study.config import load_config
from rmtransfer.study.study import RewardModelId, Study

BASE = "gemma-3-270m"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def config() -> dict:
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    config["languages"]["targets"] = ["es"]
    return config


def aligning(config: dict, root: Path = ROOT) -> Aligning:
    return Aligning(Study(load_config(config, root)))


@pytest.mark.parametrize("identity", ["dpo/llama/en/seed0", "best-of-4/llama/in-language/seed3", "sft/longer-answer"])
def test_a_contenders_id_is_what_it_is(identity):
    assert Contender.parse(identity).id == identity


@pytest.mark.parametrize("identity", ["dpo", "dpo/a/b/c", "dpo/a/b/seedx"])
def test_what_is_no_contender(identity):
    with pytest.raises(StudyError, match="is no "):
        Contender.parse(identity)


def test_the_bases_are_the_policies_where_none_are_named(config):
    config["base_models"]["other"] = dict(config["base_models"][BASE])
    found = aligning(config)
    assert found.policies == [BASE, "other"]
    assert found.own_models == []
    assert [found.folder(policy) for policy in found.policies] == [
        f"results/sample/base_models/{base}" for base in (BASE, "other")
    ]


def test_selectors_are_of_the_policys_base_and_of_all_bases_for_a_policy_from_elsewhere(config, tmp_path):
    config["base_models"]["other"] = dict(config["base_models"][BASE])
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps({}))
    config["policies"] = {
        "same": {"path": BASE},
        "tuned": {"path": "other", "adapter": str(tmp_path / "adapter")},
        "instruct": {"path": str(name_model(tmp_path / "instruct"))},
    }
    config["alignment"]["selectors"] = ["in-language", "longer-answer"]
    found = aligning(config)
    selectors = {policy: [s.id for s in found.selectors(policy)] for policy in found.policies}
    assert selectors == {
        "same": [f"{BASE}/in-language/seed0", "longer-answer"],
        "tuned": ["other/in-language/seed0", "longer-answer"],
        "instruct": [f"{BASE}/in-language/seed0", "other/in-language/seed0", "longer-answer"],
    }
    assert found.own_models == ["tuned", "instruct"]
    assert {policy: found.folder(policy).rpartition("/")[2] for policy in found.policies} == {
        "same": BASE,
        "tuned": "tuned",
        "instruct": "instruct",
    }
    assert found.inputs_of("tuned") == ["results/sample/base_models/other"]
    assert found.options_of("tuned", ROOT)["path"] == "results/sample/base_models/other"
    assert list(found.templates(ROOT)) == ["policies.instruct"]  # an adapter has its base's template
    assert not found.downloads("tuned")


def test_in_its_language_each_reward_model_selects(config):
    found = aligning(config)
    own = RewardModelId(BASE, "in-language", 0)
    assert found.selecting_models(own) == {language: RewardModelId(BASE, language, 0) for language in ("en", "es")}
    folder = "results/sample/alignment/rewards"
    assert found.selections(own, BASE, "instructions") == [
        f"{folder}/{BASE}/{language}/seed0/{BASE}/instructions/{language}.parquet" for language in ("en", "es")
    ]


def test_a_policy_answers_held_out_instructions_once_more_than_are_picked_from(config):
    found = aligning(config)
    aligned = f"{BASE}/dpo/{BASE}/en/seed0"
    assert found.all_aligned == [aligned, f"{BASE}/dpo/{BASE}/in-language/seed0"]
    assert [found.samples(BASE, part) for part in found.parts_of(BASE)] == [4, 5, 1]
    assert [(part, found.samples(aligned, part)) for part in found.parts_of(aligned)] == [
        ("held_out_instructions", 1),
        ("constraints", 1),
    ]


def test_contenders_are_the_best_of_each_n_and_the_aligned(config):
    config["alignment"] |= {"methods": ["sft"], "selectors": ["en"], "seeds": [0, 1]}
    assert [c.id for c in aligning(config).contenders(BASE)] == [
        f"{method}/{BASE}/en/seed{seed}" for method in ("best-of-2", "best-of-4", "sft") for seed in (0, 1)
    ]


def test_a_panel_has_another_seed_than_the_selectors_where_there_is_one(config):
    def seeds(**alignment) -> list[int]:
        config["alignment"] |= alignment
        return sorted({model.seed for model in aligning(config).panel(BASE)})

    assert seeds(seeds=[0]) == [2]
    assert seeds(seeds=[0, 2]) == [0, 2]
    config["seeds"] = [5]
    assert seeds(seeds=None) == [5]


def test_without_held_out_instructions_there_is_best_of_n_alone(config):
    del config["held_out_instructions"]
    config["alignment"] |= {"methods": [], "constraints": None}
    found = aligning(config)
    assert (found.contenders(BASE), found.all_aligned, found.writers) == ([], [], [BASE])
    assert found.parts_of(BASE) == ["instructions"]


def test_what_is_not_set_decides_nothing_of_the_answers(config):
    """Answers of studies that know no top_p are the same."""
    assert aligning(config).sampling_options(BASE, "instructions") == {
        "samples": 4,
        "max_new_tokens": 16,
        "temperature": 0.7,
        "top_k": 50,
    }
    config["alignment"] |= {"top_p": 0.9, "engine": "vllm"}
    assert {"top_p", "engine"} <= set(aligning(config).sampling_options(BASE, "instructions"))


def test_a_hub_policy_or_adapter_is_downloaded(config):
    hub = {"path": "org/name", "revision": COMMIT}
    config["policies"] = {
        "hub": hub,
        "adapter": {"path": BASE, "adapter": "org/adapter", "adapter_revision": COMMIT},
    }
    found = aligning(config)
    assert [found.downloads(policy) for policy in found.policies] == [True, True]
