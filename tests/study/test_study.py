"""The names of things: which reward models, which files, from which folders."""

import datetime
import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from conftest import ROOT, name_model
from rmtransfer.kit.errors import StudyError
from rmtransfer.study import catalogue, reference
from rmtransfer.study.aligning import Aligning
from rmtransfer.study.config import Config, load_config
from rmtransfer.study.study import RewardModelId, Study


@pytest.fixture
def config() -> dict:
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    config["benchmarks"]["more"] = {"path": "resources/sample/benchmark.jsonl", "sections": "subsets"}
    config["seeds"] = [0]
    # Tests name other reward models and bases.
    config["reward_models"] = {name: config["reward_models"][name] for name in ("longer-answer", "random")}
    config["alignment"] |= {"reward_models": [], "judges": []}
    return config


def test_scorers_are_ours_then_translate_test_then_others_and_translate_test_knows_the_leading_benchmark_only(config):
    config |= {
        "seeds": [0, 3],
        "languages": {"source": "en", "targets": ["es"]},
        "mixtures": {"mix": {"en": 1, "es": 1}},
        "reward_models": {"longer-answer": {"kind": "length", "unit": "characters"}, "random": {"kind": "random"}},
    }
    config["translation"]["translate_test"] = {"engine": "memory"}
    study = Study(load_config(config, ROOT))
    ours = [RewardModelId("gemma-3-270m", train, seed) for train in ("en", "es", "mix") for seed in (0, 3)]
    back = [RewardModelId("gemma-3-270m", "translate-test", seed) for seed in (0, 3)]
    others = [RewardModelId("longer-answer"), RewardModelId("random")]
    assert study.scorers("sample") == ours + back + others
    assert study.scorers("more") == ours + others
    assert study.leading == "sample"
    assert study.rows_scored(back[0].id, "sample")[1] == "results/sample/translations/es/sample.back.parquet"
    assert study.content_scored(back[0].id, "sample") == ["en", "es in en"]
    assert study.model_folders(back[1].id, ROOT) == {"path": "results/sample/models/gemma-3-270m/en/seed3"}


def test_training_sets_are_languages_then_mixtures_then_parts_by_size(config):
    config |= {"languages": {"source": "en", "targets": ["es"]}, "mixtures": {"mix": {"pairs": 120, "en": 1, "es": 3}}}
    config["training"]["pairs"] = [48, 24]
    study = Study(load_config(config, ROOT))
    assert list(study.training_sets) == ["en", "es", "mix", "en.24", "es.24", "en.48", "es.48"]
    assert study.training_sets["es"] == ({"es": 1}, None)
    assert study.training_sets["es.24"] == ({"es": 1}, 24)
    assert study.training_sets["mix"] == ({"en": 1, "es": 3}, 120)
    assert study.pairs("gemma-3-270m/en.48/seed0") == 48
    assert study.pairs("gemma-3-270m/en/seed0") is None
    assert study.shares("gemma-3-270m/en.48/seed0") == {"en": 1}
    assert [model.train_language for model in study.full_reward_models] == ["en", "es", "mix"]
    assert len(study.scorers("sample")) == 7 + 2


def test_parts_are_of_languages_and_not_of_their_variants(config):
    config["languages"]["targets"] = ["es"]
    config["translation"]["variants"] = {"again": {"engine": "memory"}}
    config["training"]["pairs"] = [24]
    study = Study(load_config(config, ROOT))
    assert list(study.training_sets) == ["en", "es", "es-x-again", "en.24", "es.24"]


def test_a_round_trip_is_a_language_that_is_translated_from_a_target(config):
    config["translation"]["round_trip"] = {"engine": "deepl", "targets": ["ko", "zh"]}
    study = Study(load_config(config, ROOT))
    assert study.round_trips == ["en-x-ko", "en-x-zh"]
    assert study.languages == ["en", "es", "it", "ko", "zh", "en-x-ko", "en-x-zh"]
    assert study.translations == study.languages[1:]
    assert study.engine("en-x-ko")["engine"] == "deepl"
    assert study.engine("ko")["engine"] == "memory"
    assert [study.translated_from(code) for code in ("ko", "en-x-ko")] == ["en", "ko"]
    assert study.plain_language("en-x-ko") == "en"
    assert RewardModelId("gemma-3-270m", "en-x-ko") in study.scorers("more")
    origins = study.origins["sample"]
    assert [origins["en"], origins["ko"]] == [["original", ""], ["translated", "memory"]]
    assert origins["en-x-ko"] == ["round trip", "deepl"]


def test_every_way_is_listed_once(config):
    config["languages"]["targets"] = ["es", "it"]
    config["benchmarks"]["written"] = {"path": "resources/sample/benchmark.jsonl", "native": "it"}
    config["translation"] |= {
        "languages": {"it": {"engine": "deepl"}},
        "round_trip": {"engine": "deepl", "targets": ["es"]},
        "translate_test": {"engine": "deepl"},
    }
    ways = {way["language"]: way for way in Study(load_config(config, ROOT)).ways()}
    assert {name: (way["source"], way["target"], way["spec"]["engine"]) for name, way in ways.items()} == {
        "es": ("en", "es", "memory"),
        "it": ("en", "it", "deepl"),
        "en-x-es": ("es", "en", "deepl"),
        "it > en": ("it", "en", "deepl"),  # what comes back from es is asked for by the round trip
    }
    translated = ["preferences", "sample", "more", "instructions", "held_out_instructions"]
    assert [list(way["rows"]) for way in ways.values()] == [translated, translated, translated, ["sample"]]
    assert ways["en-x-es"]["rows"]["sample"] == "results/sample/translations/es/sample.parquet"
    config["translation"]["translate_test"] = {"engine": "memory"}
    assert [way["language"] for way in Study(load_config(config, ROOT)).ways()][3:] == ["es > en", "it > en"]


def test_what_is_given_in_every_language_comes_back_too(config, tmp_path):
    for language in ("en", "es"):
        (tmp_path / f"{language}.jsonl").write_text("{}\n")
    config["languages"]["targets"] = ["es"]
    given = {"path": str(tmp_path / "{language}.jsonl")}
    config |= {"preferences": given, "instructions": given, "benchmarks": {"sample": given}}
    del config["held_out_instructions"]
    config["alignment"]["methods"] = []
    config["translation"]["round_trip"] = {"engine": "memory"}
    study = Study(load_config(config, ROOT))
    assert study.translations == ["en-x-es"]
    assert [list(way["rows"]) for way in study.ways()] == [["preferences", "sample", "instructions"]]
    assert study.origins["sample"]["es"] == ["translated", ""]  # by others


def test_a_native_benchmark_is_in_its_language_alone(config):
    config["benchmarks"]["written"] = {"path": "resources/sample/benchmark.jsonl", "native": "es"}
    study = Study(load_config(config, ROOT))
    assert study.parallel == ["sample", "more"]
    assert study.given == ["written"]
    assert study.rows("written") == ["results/sample/translations/es/written.parquet"]
    assert study.rows_scored("random", "written") == study.rows("written")
    files = study.score_files("written")
    assert {study.at.scores.parse(path)["language"] for path in files} == {"es"}
    assert len(files) == len(study.scorers("written"))
    assert study.origins["written"] == {"es": ["native", ""]}
    assert "native" not in study.entry("written", "es")  # decides nothing about the rows


def test_every_score_file_says_whose_it_is(config):
    study = Study(load_config(config, ROOT))
    files = study.score_files("more")
    assert len(files) == len(set(files)) == len(study.scorers("more")) * len(study.languages)
    fields = [study.at.scores.parse(path) for path in files]
    assert {RewardModelId.parse(found["reward_model"]) for found in fields} == set(study.scorers("more"))
    assert {found["benchmark"] for found in fields} == {"more"}


def test_a_training_set_tells_the_plain_languages_in_it(config):
    config["mixtures"] = {"mix": {"en": 1, "es-x-nllb": 1, "es": 2}}
    config["translation"]["variants"] = {"nllb": {"engine": "memory", "targets": ["es"]}}
    study = Study(load_config(config, ROOT))
    found = {train: study.trained_in(train) for train in ("en", "es-x-nllb", "mix", "-", "translate-test")}
    assert found == {"en": ["en"], "es-x-nllb": ["es"], "mix": ["en", "es"], "-": [], "translate-test": []}


def test_answers_are_scored_by_the_models_of_their_base_and_by_those_that_are_named(config):
    config["languages"]["targets"] = ["es"]
    config["base_models"]["other"] = dict(config["base_models"]["gemma-3-270m"])
    config["alignment"]["reward_models"] = ["random"]
    aligning = Aligning(Study(load_config(config, ROOT)))
    folder = "results/sample/alignment/rewards"
    assert [file for policy in aligning.policies for file in aligning.rewards(policy)] == [
        f"{folder}/{model}/{base}/instructions/{language}.parquet"
        for base in ("gemma-3-270m", "other")
        for model in (f"{base}/en/seed0", f"{base}/es/seed0", "random")
        for language in ("en", "es")
    ]


def test_models_of_others_are_bases_folders_or_downloads(config, tmp_path):
    commit, local = 40 * "a", str(name_model(tmp_path / "local"))
    config["reward_models"] = {
        "hub": {"kind": "classifier", "path": "org/name", "revision": commit},
        "base": {"kind": "likelihood", "path": "gemma-3-270m"},
        "folder": {"kind": "classifier", "path": local},
        "counts": {"kind": "length", "unit": "tokens", "tokenizer": "org/name", "revision": commit},
        "policy": {
            "kind": "implicit",
            "policy": "org/a",
            "revision": commit,
            "reference": "org/b",
            "reference_revision": commit,
        },
    }
    study = Study(load_config(config, ROOT))
    folders = {name: study.model_folders(name, ROOT) for name in config["reward_models"]}
    assert folders == {
        "hub": {"path": "results/sample/reward_models/hub/path"},
        "base": {"path": "results/sample/base_models/gemma-3-270m"},
        "folder": {"path": local},
        "counts": {"tokenizer": "results/sample/reward_models/counts/tokenizer"},
        "policy": {key: f"results/sample/reward_models/policy/{key}" for key in ("policy", "reference")},
    }
    assert study.download("counts", "tokenizer") == {"model": "org/name", "revision": commit, "tokenizer_only": True}
    assert study.download("hub", "path")["tokenizer_only"] is False
    assert study.loads_weights("hub")
    assert not study.loads_weights("counts")


def test_every_model_says_what_it_scores_and_how_much_it_reads_of_it(config, tmp_path):
    config["reward_models"] = {
        "encoder": {
            "kind": "classifier",
            "path": str(name_model(tmp_path / "encoder")),
            "pair": True,
            "max_length": 96,
        },
        "judge": {"kind": "judge", "mode": "rating", "path": str(name_model(tmp_path / "judge"))},
        "likely": {"kind": "likelihood", "path": str(name_model(tmp_path / "likely"))},
    }
    study = Study(load_config(config, ROOT))
    found = study.templates(tmp_path)
    assert {key: one["parts"] for key, one in found.items()} == {
        **{f"base_models.{base}": study.benchmarks for base in study.bases},
        "reward_models.encoder": study.benchmarks,
        "reward_models.judge": [],
        "reward_models.likely": study.benchmarks,
    }
    assert (found["reward_models.encoder"]["pair"], found["reward_models.encoder"]["max_length"]) == (True, 96)
    assert "pair" not in found["reward_models.likely"]


def test_heads_read_the_states_of_their_base_and_a_probe_has_a_row_for_each_language(config):
    config["languages"] = {"source": "en", "targets": ["es"]}
    config["mixtures"] = {"mix": {"en": 1, "es": 1}}
    config["reward_models"] = {
        "untrained-head": {"kind": "untrained", "path": "gemma-3-270m"},
        "linear": {"kind": "probe", "path": "gemma-3-270m"},
        "likelihood": {"kind": "likelihood", "path": "gemma-3-270m"},
        "longer": {"kind": "length", "unit": "characters"},
        "theirs": {"kind": "classifier", "path": "org/name", "revision": 40 * "a"},
    }
    study = Study(load_config(config, ROOT))
    rows = study.scorers("more")[len(study.reward_models) :]
    assert rows == [
        RewardModelId("untrained-head"),
        RewardModelId("linear", "en"),
        RewardModelId("linear", "es"),
        *(RewardModelId(name) for name in ("likelihood", "longer", "theirs")),
    ]
    base = "gemma-3-270m"
    assert study.baselines == {"untrained-head": base, "linear": base, "likelihood": base, "longer": ""}
    assert [study.reads_states(row.id) for row in rows] == [True, True, True, False, False, False]
    assert not any(study.reads_states(model.id) for model in study.reward_models)
    probe, states = "linear/es/seed0", "results/sample/hidden_states/gemma-3-270m/base"
    assert rows[2].id == probe
    assert study.scoring_options(probe) == {"kind": "probe", "path": base}
    assert study.base_states(probe, "more", ["es"]) == [f"{states}/more/es.npz"]
    assert study.fitted_states(probe) == f"{states}/preferences/es.npz"
    assert study.fitted_states("untrained-head") == []
    assert study.model_folders(probe, ROOT) == {"base": "results/sample/base_models/gemma-3-270m"}
    assert not study.loads_weights(probe)
    assert study.embedded(base) == ["sample", "more", "preferences"]
    del config["reward_models"]["linear"], config["reward_models"]["untrained-head"]
    assert Study(load_config(config, ROOT)).embedded(base) == ["sample"]


def test_a_head_on_an_unknown_base_is_one_clear_error(config):
    config["reward_models"] = {"linear": {"kind": "probe", "path": "llama"}}
    with pytest.raises(StudyError) as error:
        load_config(config, ROOT)
    assert str(error.value).splitlines() == [
        "the configuration has 1 problem:",
        "  - reward_models.linear.path: 'llama' is none of base_models (gemma-3-270m); name one of them",
    ]


def test_an_llm_of_the_study_translates_from_its_folder(config):
    config["translation"] |= {"engine": "llm", "llm": {"model": "gemma-3-270m"}}
    study = Study(load_config(config, ROOT))
    spec = study.engine("es")
    assert spec["options"]["model"] == "results/sample/base_models/gemma-3-270m"
    assert study.engine_files(spec) == ["results/sample/base_models/gemma-3-270m"]
    assert study.runs_a_model(spec)


def test_params_are_builtins_that_snakemake_can_compare(config):
    """Paths and classes of our own would silently be dropped from what triggers a rerun."""
    plain = load_config(config, ROOT).plain()
    seen = 0

    def check(value):
        nonlocal seen
        seen += 1
        assert type(value) in (dict, list, str, int, float, bool), value
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            check(inner)

    check(plain)
    assert seen > 80
    assert load_config(deepcopy(plain), ROOT).plain() == plain


def test_the_recipe_is_what_decides_a_training_and_not_how_fast_it_goes(config):
    recipe = Study(load_config(config, ROOT)).recipe
    config["training"] |= {"gradient_checkpointing": True, "processes": 4, "pairs": [24]}
    assert Study(load_config(config, ROOT)).recipe == recipe
    config["training"] |= {"adapter": {"kind": "lora"}, "optimizer": "adamw_8bit", "processes": 1}
    changed = Study(load_config(config, ROOT)).recipe
    assert {key for key in changed if changed[key] != recipe.get(key)} == {"adapter", "optimizer"}
    assert changed["adapter"]["merge"] is True  # builtins, defaults filled in


CATALOGUES = {name: entries for name, entries in vars(catalogue).items() if name.isupper()}


@pytest.mark.parametrize("name", CATALOGUES)
def test_what_a_catalogue_names_is_there_with_its_options(name):
    for entry in CATALOGUES[name]:
        assert hasattr(catalogue.load(CATALOGUES[name], entry), "Options") or name == "JUDGE_PROTOCOLS"
    assert len(CATALOGUES) == 5


def test_the_schema_and_the_reference_are_those_of_the_classes():
    remedy = "run: PYTHONPATH=workflow .venv/bin/python -m rmtransfer.study.reference"
    assert reference.SCHEMA.read_text(encoding="utf-8") == reference.schema(), remedy
    assert reference.REFERENCE.read_text(encoding="utf-8") == reference.reference(), remedy


def test_the_references_table_is_one():
    """A line break within a description would end it."""
    lines = reference.reference().splitlines()
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("|")) :]
    assert len(table) > 150
    assert [line for line in table if line and not (line.startswith("|") and line.endswith("|"))] == []


def test_every_key_has_a_description_and_stands_in_the_reference():
    text = reference.reference()
    properties = [
        (owner, name, about)
        for owner, definition in Config.model_json_schema()["$defs"].items()
        for name, about in definition.get("properties", {}).items()
    ]
    assert len(properties) > 80
    for owner, name, about in properties:
        assert "description" in about or "const" in about or name == "kind", (owner, name)
        assert f"{name}` |" in text, (owner, name)


def test_the_default_config_shows_every_section(config):
    """The default config is the documentation: a key that it does not show is a key that nobody finds."""
    assert set(Config.model_fields) == set(config)
    for section in ("training", "representation", "alignment", "figures", "resources"):
        assert set(Config.model_fields[section].annotation.model_fields) == set(config[section])


def test_nothing_heavy_is_imported_to_read_a_study():
    code = (
        "import sys, yaml; from pathlib import Path; from rmtransfer.study.config import load_config; "
        "from rmtransfer.study.study import Study; import rmtransfer.report.catalogue, rmtransfer.transfer.measures; "
        "Study(load_config(yaml.safe_load(Path('config.yaml').read_text()), Path.cwd())); "
        "print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "workflow")},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert "rmtransfer" in loaded
    heavy = {"torch", "transformers", "datasets", "trl", "pandas", "numpy", "scipy", "sklearn", "pyarrow", "matplotlib"}
    assert not loaded & {*heavy, "requests", "deepl", "snakemake"}


@pytest.mark.parametrize(("merge", "more"), [(True, {}), (False, {"base": "results/sample/base_models/gemma-3-270m"})])
def test_an_adapter_alone_is_scored_on_its_base(config, merge, more):
    config["training"]["adapter"] = {"kind": "lora", "merge": merge}
    folders = Study(load_config(config, ROOT)).model_folders("gemma-3-270m/en/seed0", ROOT)
    assert folders == {"path": "results/sample/models/gemma-3-270m/en/seed0"} | more


def test_a_day_decides_what_may_write_it_and_nothing_else(config, tmp_path):
    (tmp_path / "dated.jinja").write_text("{{ strftime_now('%d') }}")
    (tmp_path / "plain.jinja").write_text("{{ messages }}")
    name_model(tmp_path / "folder")
    (tmp_path / "folder/chat_template.jinja").write_text("{{ date_string }}")
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / "folder" / name).write_text("{}")
    save_file({"weight": np.zeros(1)}, tmp_path / "folder/model.safetensors")
    pinned = {"path": "org/name", "revision": 40 * "0"}
    config["base_models"] = {
        "plain": {**pinned, "chat_template": "plain.jinja"},
        "dated": {**pinned, "chat_template": "dated.jinja"},
        "hub": pinned,
        "folder": {"path": "folder"},
    }
    config["reward_models"] = {
        "length": {"kind": "length", "unit": "characters"},
        "classifier": {"kind": "classifier", **pinned},
        "own-day": {"kind": "classifier", **pinned, "date": datetime.date(2020, 1, 1)},
        "policy": {"kind": "implicit", "policy": "folder", "reference": "plain"},
        "likelihood": {"kind": "likelihood", "path": "plain"},  # the base has its day already
        "server": {"kind": "judge", "mode": "pairwise", "server": {"url": "http://host/v1", "model": "m"}},
    }
    config["alignment"] = {}
    del config["held_out_instructions"]
    config["translation"] = {"engine": "llm", "llm": {"model": "org/name", "revision": 40 * "0"}}
    for name in ("preferences", "instructions"):
        config[name] = {"path": "rows.jsonl"}
    config["benchmarks"] = {"sample": {"path": "rows.jsonl"}}
    (tmp_path / "rows.jsonl").write_text("{}\n")

    def days(day: object) -> set[str]:
        study = Study(load_config({**config, "chat": {"date": day}}, tmp_path))
        given = {base: study.base_options(base, tmp_path) for base in study.bases}
        given |= {name: study.clock_of(name, tmp_path) for name in config["reward_models"]}
        given["llm"] = study.engine("es")["options"]
        assert {these["date"] for these in given.values() if "date" in these} <= {str(day)}
        return {name for name, these in given.items() if "date" in these}

    assert days("2024-07-26") == set()  # the default enters no key
    assert days(datetime.date(2025, 1, 2)) == {"dated", "hub", "folder", "classifier", "policy", "llm"}
    for wrong in ("2 Jan 2025", "2025-02-30", 2025):
        with pytest.raises(StudyError, match=r"chat\.date"):
            days(wrong)
