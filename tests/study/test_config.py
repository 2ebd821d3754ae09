"""Every fault in a config is named by key, value and remedy, before anything runs."""

from pathlib import Path

import pytest
import yaml

from conftest import ROOT, name_model
from rmtransfer.kit.errors import StudyError
from rmtransfer.study.config import load_config
from rmtransfer.study.study import Study

SERVER = {"url": "http://localhost/v1", "model": "m"}
JUDGE = {"kind": "judge", "mode": "pairwise", "server": SERVER}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def config() -> dict:
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    # Tests name other reward models and bases.
    config["reward_models"] = {name: config["reward_models"][name] for name in ("longer-answer", "random")}
    config["alignment"] |= {"reward_models": [], "judges": []}
    return config


def change(config, path, value):
    *parents, last = path.split(".")
    for key in parents:
        config = config[key]
    if value is None:
        del config[last]
    else:
        config[last] = value


def test_the_default_study_is_valid(config):
    assert load_config(config, ROOT).languages.targets == ["es", "it", "ko", "zh"]


def test_defaults_are_filled_in_and_the_input_is_left_alone(config):
    for section in ("training", "alignment", "figures", "resources", "seeds"):
        del config[section]
    full = load_config(config, ROOT)
    assert full.training.learning_rate == 1e-5
    assert full.training.pairs_per_step == 128
    assert full.seeds == [0]
    assert full.preferences.invalid_rows == "stop"
    assert "training" not in config


FAULTS = {
    "typo at the top": ("languagse", {}, ["unknown key 'languagse'", "did you mean 'languages'?"]),
    "typo below": (
        "training.learning_rat",
        1,
        ["training: unknown key 'learning_rat'", "did you mean 'learning_rate'?"],
    ),
    "wrong type": (
        "training.epochs",
        "two",
        ["training.epochs: 'two': should be a valid integer (passes over the training pairs)"],
    ),
    "out of range": ("training.learning_rate", 0, ["training.learning_rate: 0: should be greater than 0"]),
    "missing": ("languages.source", None, ["languages: missing 'source'"]),
    "engine": (
        "translation.engine",
        "memry",
        ["translation.engine: 'memry' is none of memory", "did you mean 'memory'?"],
    ),
    "source in targets": ("languages.targets", ["es", "en"], ["languages.targets: 'en' is also languages.source"]),
    "no targets": ("languages.targets", [], ["languages.targets: [] leaves nothing to transfer to"]),
    "language twice": ("languages.targets", ["es", "es"], ["languages.targets", "'es' is there twice; remove one"]),
    "unknown language": ("languages.targets", ["es", "fr"], ["languages: 'fr' is not in", "holds en, es, it, ko, zh"]),
    "no file": ("benchmarks.sample.path", "nowhere.jsonl", ["benchmarks.sample.path: 'nowhere.jsonl' does not exist"]),
    "format": (
        "benchmarks.sample.path",
        "README.md",
        ["benchmarks.sample.path: 'README.md' is neither JSON Lines, a JSON array nor Parquet", "'# ", "convert it"],
    ),
    "a folder of rows": (
        "benchmarks.sample.path",
        "resources/sample",
        ["benchmarks.sample.path: 'resources/sample' is a folder; name the file in it that holds the rows"],
    ),
    "path and hub": ("preferences.hub", "org/name", ["preferences: give either path or hub"]),
    "no memory": ("translation.memory", None, ["translation.memory: missing"]),
    "memory lost": ("translation.memory", "nowhere.tmx", ["translation.memory: 'nowhere.tmx' does not exist"]),
    "no model": ("translation.engine", "seq2seq", ["translation.seq2seq: missing", "a section that names its model"]),
    "a model that can move": (
        "translation",
        {"engine": "seq2seq", "seq2seq": {"model": "org/name"}},
        ["translation.seq2seq.model: 'org/name' has no revision"],
    ),
    "no such model folder": (
        "translation",
        {"engine": "llm", "llm": {"model": "./nowhere"}},
        ["translation.llm.model: './nowhere' is not a folder"],
    ),
    "a prompt without the text": (
        "translation",
        {"engine": "llm", "llm": {"model": "gemma-3-270m", "prompt": "Translate!"}},
        ["translation.llm.prompt: 'Translate!' does not hold {text}"],
    ),
    "an engine for no target": (
        "translation.languages",
        {"fr": {"engine": "deepl"}},
        ["translation.languages: 'fr' is no target"],
    ),
    "a variant for no target": (
        "translation.variants",
        {"x": {"engine": "deepl", "targets": ["fr"]}},
        ["translation.variants.x.targets: 'fr' is no target"],
    ),
    "a round trip over no target": (
        "translation.round_trip",
        {"engine": "deepl", "targets": ["fr"]},
        ["translation.round_trip.targets: 'fr' is no target; add it to languages.targets or remove it here"],
    ),
    "a round trip by nobody": ("translation.round_trip", {"targets": ["es"]}, ["round_trip: missing 'engine'"]),
    "a round trip without a model": (
        "translation.round_trip",
        {"engine": "seq2seq"},
        ["translation.seq2seq: missing; engine 'seq2seq' needs a section that names its model"],
    ),
    "a native set of no language": (
        "benchmarks.other",
        {"path": "resources/sample/benchmark.jsonl", "native": "fr"},
        [
            "benchmarks.other.native: fr is no language of the study; add it to languages.targets, or remove the benchmark"
        ],
    ),
    "a native set that leads": (
        "benchmarks.sample.native",
        "es",
        [
            "benchmarks.sample.native: es, and the first of the benchmarks leads, which needs every language; put another"
        ],
    ),
    "a native set in several languages": (
        "benchmarks.other",
        {"hub": "org/name", "revision": COMMIT, "name": "{language}", "native": "es"},
        ["benchmarks.other.native: es, and rows in other languages too; give what was written in each a benchmark"],
    ),
    "a native set of every language": ("benchmarks.sample.native", True, ["benchmarks.sample.native: True", "string"]),
    "a variant's name": ("translation.variants", {"too-long-a-name": {"engine": "deepl"}}, ["too-long-a-name"]),
    "a key in the config": ("translation.deepl", {"auth_key": "x"}, ["translation.deepl: unknown key 'auth_key'"]),
    "references lost": ("translation.references", "no.tmx", ["translation.references: 'no.tmx' does not exist"]),
    "template lost": (
        "base_models",
        {"m": {"path": "org/name", "revision": COMMIT, "chat_template": "nowhere.jinja"}},
        ["base_models.m.chat_template: 'nowhere.jinja' does not exist"],
    ),
    "a base that can move": (
        "base_models",
        {"m": {"path": "org/name"}},
        ["base_models.m.path: 'org/name' has no revision; add the model's commit, a branch can move"],
    ),
    "a base from nowhere": (
        "base_models",
        {"m": {"path": "pakage:gemma"}},
        ["base_models.m", "'pakage' is none of package, pretrained", "did you mean 'package'?"],
    ),
    "a branch of a base": (
        "base_models",
        {"m": {"path": "org/name", "revision": "main"}},
        ["base_models.m.revision: 'main' is no commit of 40 hexadecimal digits"],
    ),
    "a branch of a data set": (
        "preferences",
        {"hub": "org/name", "revision": "main"},
        ["preferences.revision: 'main' is no commit of 40 hexadecimal digits"],
    ),
    "a branch of a reward model": (
        "reward_models",
        {"x": {"kind": "classifier", "path": "org/name", "revision": "main"}},
        ["reward_models.x.revision: 'main' is no commit"],
    ),
    "a branch of a translator": (
        "translation",
        {"engine": "seq2seq", "seq2seq": {"model": "org/name", "revision": "main"}},
        ["translation.seq2seq.revision: 'main' is no commit"],
    ),
    "models by language that can move": (
        "translation",
        {"engine": "seq2seq", "seq2seq": {"model": "Helsinki-NLP/opus-mt-{source}-{target}"}},
        ["has no revisions.es; add the model's commit"],
    ),
    "a judge that neither compares nor rates": (
        "reward_models",
        {"x": {"kind": "judge", "mode": "ranking", "path": "resources"}},
        ["reward_models.x.mode: 'ranking' is none of pairwise, rating"],
    ),
    "a language's code": ("languages.source", "EN", ["languages.source: 'EN' is not a BCP-47 code such as es"]),
    "a benchmark's name": (
        "benchmarks",
        {"a b": {"path": "resources/sample/benchmark.jsonl"}},
        ["benchmarks.a b: 'a b' is not a folder's name"],
    ),
    "no mapping": ("base_models", {"m": "org/name"}, ["base_models.m: 'org/name': should be a valid mapping"]),
    "a server without its model": (
        "reward_models",
        {"x": {"kind": "judge", "mode": "rating", "server": {"url": "http://x"}}},
        ["reward_models.x.server: missing 'model'"],
    ),
    "a flag that is a word": (
        "reward_models",
        {"x": {"kind": "classifier", "path": "gemma-3-270m", "trust_remote_code": "yes"}},
        ["reward_models.x.trust_remote_code: 'yes': should be a valid boolean"],
    ),
    "no number where one belongs": ("figures.dpi", "300", ["figures.dpi: '300': should be a valid integer"]),
    "a base that is no model": (
        "base_models",
        {"m": {"path": "./resources"}},
        ["base_models.m.path: './resources' is a folder without files; put the model there, or name another"],
    ),
    "folder lost": ("base_models", {"m": {"path": "./nowhere"}}, ["base_models.m.path: './nowhere' is not a folder"]),
    "slug": ("base_models", {"org/name": {"path": "org/name"}}, ["base_models", "org/name"]),
    "a reward model of no kind": ("reward_models", {"x": {"path": "y"}}, ["reward_models.x: missing 'kind'"]),
    "a column that rows do not have": (
        "benchmarks.sample.columns",
        {"promt": "question"},
        ["benchmarks.sample.columns: unknown key 'promt'", "did you mean 'prompt'?"],
    ),
    "a kind misspelt": (
        "reward_models",
        {"x": {"kind": "clasifier"}},
        ["reward_models.x.kind: 'clasifier' is none of", "did you mean 'classifier'?"],
    ),
    "a reward model without its model": (
        "reward_models",
        {"x": {"kind": "implicit", "policy": "resources"}},
        ["reward_models.x: missing 'reference'", "; add it"],
    ),
    "a key of another kind": (
        "reward_models",
        {"x": {"kind": "random", "path": "resources"}},
        ["reward_models.x: unknown key 'path'; known here: kind, seed"],
    ),
    "a reward model that can move": (
        "reward_models",
        {"x": {"kind": "classifier", "path": "org/name"}},
        ["reward_models.x.path: 'org/name' has no revision"],
    ),
    "a reference that can move": (
        "reward_models",
        {"x": {"kind": "implicit", "policy": "gemma-3-270m", "reference": "org/name", "revision": COMMIT}},
        ["reward_models.x.reference: 'org/name' has no reference_revision"],
    ),
    "a judge from nowhere": (
        "reward_models",
        {"x": {"kind": "judge", "mode": "rating"}},
        ["reward_models.x: give either path or server"],
    ),
    "a judge's prompt": (
        "reward_models",
        {"x": {"kind": "judge", "mode": "pairwise", "path": "gemma-3-270m", "prompt": "{prompt} {answer_a}"}},
        ["reward_models.x.prompt: does not hold {answer_b}"],
    ),
    "a verdict's form that nobody asks for": (
        "reward_models",
        {"x": {**JUDGE, "verdict": "prometheus"}},
        ["reward_models.x.verdict: our own prompt asks for another form than 'prometheus'; add the prompt"],
    ),
    "a verdict's form misspelt": (
        "reward_models",
        {"x": {**JUDGE, "verdict": "promethus"}},
        ["reward_models.x.verdict: 'promethus' is none of brackets, ", "did you mean 'prometheus'?"],
    ),
    "a verdict's pattern": (
        "reward_models",
        {"x": {**JUDGE, "verdict": {"pattern": "A|B"}}},
        ["reward_models.x.verdict.pattern: 'A|B': has 0 groups"],
    ),
    "a verdict of two meanings": (
        "reward_models",
        {"x": {**JUDGE, "verdict": {"pattern": "(A|B)", "first": ["a"], "second": ["A"]}}},
        ["reward_models.x.verdict: 'a' means two things"],
    ),
    "a number that is an answer": (
        "reward_models",
        {"x": {**JUDGE, "mode": "rating", "verdict": {"pattern": "(.)", "tie": [0]}}},
        ["reward_models.x.verdict.tie: a judge in mode rating says a number"],
    ),
    "a scale of comparisons": (
        "reward_models",
        {"x": {**JUDGE, "scale": [1, 5]}},
        ["reward_models.x.scale: a judge in mode pairwise gives no numbers"],
    ),
    "a scale that falls": (
        "reward_models",
        {"x": {**JUDGE, "mode": "rating", "scale": [5, 1]}},
        ["reward_models.x.scale: [5, 1] does not rise"],
    ),
    "an order of one answer": (
        "reward_models",
        {"x": {**JUDGE, "mode": "rating", "orders": "random"}},
        ["reward_models.x.orders: a judge in mode rating sees one answer at a time"],
    ),
    "another limit in the request": (
        "reward_models",
        {"x": {**JUDGE, "server": {**SERVER, "extra": {"max_tokens": 5}}}},
        ["reward_models.x.server.extra.max_tokens: is what max_new_tokens says; set that, or null"],
    ),
    "a field of the request that is ours": (
        "reward_models",
        {"x": {**JUDGE, "server": {**SERVER, "extra": {"model": "other"}}}},
        ["reward_models.x.server.extra.model: is not for you to set; remove it, set server.model"],
    ),
    "a field of the request that is no JSON": (
        "reward_models",
        {"x": {**JUDGE, "server": {**SERVER, "extra": {"top_p": float("inf")}}}},
        ["reward_models.x.server.extra.top_p: is no JSON"],
    ),
    "tokens of no tokenizer": (
        "reward_models",
        {"x": {"kind": "length", "unit": "tokens"}},
        ["reward_models.x.tokenizer: needed for unit: tokens"],
    ),
    "a reward model named like a base": (
        "reward_models",
        {"gemma-3-270m": {"kind": "random"}},
        ["reward_models.gemma-3-270m: a base model has that name"],
    ),
    "a benchmark named like another part": (
        "benchmarks",
        {"preferences": {"path": "resources/sample/benchmark.jsonl"}},
        ["benchmarks.preferences: the name is taken"],
    ),
    "a benchmark named like a language": (
        "benchmarks",
        {"ko": {"path": "resources/sample/benchmark.jsonl"}},
        ["benchmarks.ko: the name is taken"],
    ),
    "the key of an older version": (
        "benchmark",
        {"path": "resources/sample/benchmark.jsonl"},
        ["benchmark: is written benchmarks: {<name>: {path: ...}} now, and the first of them leads"],
    ),
    "no benchmark": ("benchmarks", {}, ["benchmarks: {}: "]),
    "a benchmark lost": (
        "benchmarks",
        {"more": {"path": "nowhere.jsonl"}},
        ["benchmarks.more.path: 'nowhere.jsonl' does not exist"],
    ),
    "sections": (
        "benchmarks.sample.sections",
        "rewardbench3",
        ["benchmarks.sample.sections: 'rewardbench3' is none of"],
    ),
    "a language without a FLORES code": (
        "benchmarks.sample",
        {"path": "{language}.jsonl", "codes": "flores"},
        ["benchmarks.sample.codes: no FLORES-200 code is known for 'eo'"],
    ),
    "a mixture of strangers": (
        "mixtures",
        {"m": {"en": 1, "fr": 1}},
        ["mixtures.m: 'fr' is no language of the study"],
    ),
    "a mixture named like a language": ("mixtures", {"ko": {"en": 1, "es": 1}}, ["mixtures.ko: the name is taken"]),
    "a mixture named like the base model's row": (
        "mixtures",
        {"base": {"en": 1, "es": 1}},
        ["mixtures.base: the name is taken"],
    ),
    "a mixture of one": (
        "mixtures",
        {"m": {"en": 1, "pairs": 24}},
        ["mixtures.m: {'en': 1.0} is not several languages; add one"],
    ),
    "a mixture without a step": (
        "mixtures",
        {"m": {"en": 1, "es": 1, "pairs": 7}},
        ["mixtures.m.pairs: 7 is less than training.pairs_per_step, 8; raise it"],
    ),
    "a mixture's share": ("mixtures", {"m": {"en": 1, "es": 0}}, ["mixtures.m.es: 0: should be greater than 0"]),
    "a mixture's key": ("mixtures", {"m": {"en": 1, "size": 24}}, ["mixtures.m.size: 'size' is not a BCP-47 code"]),
    "a mixture named like a part": (
        "mixtures",
        {"en.24": {"en": 1, "es": 1}},
        ["mixtures.en.24: a part of 24 pairs of en would have that name; choose another"],
    ),
    "a part without a step": (
        "training.pairs",
        [24, 4],
        ["training.pairs: 4 is less than training.pairs_per_step, 8, and not even one step; raise it"],
    ),
    "a part twice": ("training.pairs", [24, 24], ["training.pairs", "24 is there twice; remove one"]),
    "a part of nothing": ("training.pairs", [0], ["training.pairs", "0: should be greater than or equal to 1"]),
    "nothing to train on": ("preferences", None, ["preferences: missing; base_models are trained on preferences"]),
    "more processes than pairs": (
        "training.processes",
        16,
        ["training.processes: 16 is more than training.pairs_per_step, 8", "lower it or raise pairs_per_step"],
    ),
    "an 8-bit optimiser on the CPU": (
        "training.optimizer",
        "adamw_8bit",
        ["training.optimizer: adamw_8bit needs a GPU, and resources.device is cpu; set adamw, or another device"],
    ),
    "an 8-bit optimiser in parts": (
        "training",
        {"optimizer": "paged_adamw_8bit", "processes": 2},
        ["training.optimizer: paged_adamw_8bit works in one process only; set adamw"],
    ),
    "a picker that is not there": (
        "alignment.reward_models",
        ["no"],
        ["alignment.reward_models: 'no' is none of reward_models; add it there or remove it here"],
    ),
    "unknown selector": (
        "alignment.selectors",
        ["en", "fr"],
        ["alignment.selectors: 'fr' is none of in-language, en, es, it, ko, zh; correct it"],
    ),
    "selector that scores no answers": (
        "alignment.selectors",
        ["longer-answer"],
        ["'longer-answer' is none of", "add it to alignment.reward_models"],
    ),
    "seed that is none": ("alignment.seeds", [0, 7], ["alignment.seeds: 7 is none of seeds, [0, 1, 2]"]),
    "adapter that is not merged": (
        "alignment.training.adapter",
        {"kind": "lora", "merge": False},
        ["alignment.training.adapter.merge: false, and policies are saved whole; remove it"],
    ),
    "unknown judge": ("alignment.judges", ["no"], ["alignment.judges: 'no' is none of reward_models"]),
    "unknown method": ("alignment.methods", ["ppo"], ["alignment.methods.0: 'ppo' is none of dpo, sft"]),
    "nothing to evaluate aligned policies on": (
        "held_out_instructions",
        None,
        ["held_out_instructions: missing; policies that are aligned (alignment.methods) are evaluated on it"],
    ),
    "held-out instructions that are the others": (
        "held_out_instructions.path",
        "resources/sample/instructions.jsonl",
        ["held_out_instructions: are the instructions themselves"],
    ),
    "constraints in one language": (
        "alignment.constraints",
        "resources/sample/constraints/en.jsonl",
        ["alignment.constraints: 'resources/sample/constraints/en.jsonl' holds no {language}"],
    ),
    "constraints that are not there": (
        "alignment.constraints",
        "no/{language}.jsonl",
        ["alignment.constraints: 'no/en.jsonl' does not exist", "'no/zh.jsonl'"],
    ),
    "policy without a commit": (
        "policies",
        {"tuned": {"path": "org/name"}},
        ["policies.tuned.path: 'org/name' has no revision"],
    ),
    "adapter without a commit": (
        "policies",
        {"tuned": {"path": "gemma-3-270m", "adapter": "org/name"}},
        ["policies.tuned.adapter: 'org/name' has no adapter_revision"],
    ),
    "adapter that is none": (
        "policies",
        {"tuned": {"path": "gemma-3-270m", "adapter": "resources"}},
        ["policies.tuned.adapter: 'resources' holds no adapter_config.json"],
    ),
    "policy with a base's name": (
        "policies",
        {"gemma-3-270m": {"path": "gemma-3-270m", "adapter": "org/name", "adapter_revision": COMMIT}},
        ["policies.gemma-3-270m: a base model has that name"],
    ),
    "n too large": ("alignment.best_of", [1, 8], ["alignment.best_of: 8 is more than alignment.samples, 4"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_explained(config, name):
    path, value, words = FAULTS[name]
    if "FLORES" in name:
        config["languages"]["targets"] = ["es", "eo"]
    if "on the CPU" in name:
        config["resources"]["device"] = "cpu"
    change(config, path, value)
    with pytest.raises(StudyError) as error:
        load_config(config, ROOT)
    for word in words:
        assert word in str(error.value)


def test_all_faults_are_reported_at_once(config):
    change(config, "training.epochs", 0)
    change(config, "study", "a/b")
    with pytest.raises(StudyError, match="2 problems"):
        load_config(config, ROOT)


def test_a_hub_data_set_needs_a_revision(config):
    config["preferences"] = {"hub": "org/name"}
    with pytest.raises(StudyError, match=r"preferences\.hub: 'org/name' has no revision"):
        load_config(config, ROOT)


def give(config, folder, languages):
    """Every part of the study in every language, as files."""
    config["preferences"] = {"path": "preferences.{language}.jsonl"}
    config["instructions"] = {"path": "instructions.{language}.jsonl"}
    config["benchmarks"] = {"sample": {"path": "benchmark.{language}.jsonl"}}
    config["held_out_instructions"] = {"path": "held_out.{language}.jsonl"}
    config["alignment"]["constraints"] = "constraints.{language}.jsonl"
    for part in ("preferences", "benchmark", "instructions", "held_out", "constraints"):
        for language in languages:
            (folder / f"{part}.{language}.jsonl").write_text("{}\n")
    config["base_models"] = {"m": {"path": "org/name", "revision": COMMIT}}


def test_given_languages_need_every_file_and_no_memory(config, tmp_path):
    give(config, tmp_path, ["en", "es"])
    config["languages"]["targets"] = ["es"]
    del config["translation"]["memory"]
    load_config(config, tmp_path)
    Path(tmp_path / "benchmark.es.jsonl").unlink()
    with pytest.raises(StudyError, match=r"benchmark\.es\.jsonl"):
        load_config(config, tmp_path)


def test_a_broken_memory_is_reported_before_anything_runs(config, tmp_path):
    broken = tmp_path / "broken.tmx"
    broken.write_text("<tmx><body>")
    config["translation"]["memory"] = str(broken)
    with pytest.raises(StudyError, match="not a well-formed TMX"):
        load_config(config, ROOT)


def test_engines_may_differ_by_language_and_by_variant(config, tmp_path):
    config["translation"] |= {
        "deepl": {"formality": "more"},
        "languages": {"ko": {"engine": "llm", "llm": {"model": "gemma-3-270m"}}},
        "variants": {
            "paid": {"engine": "deepl", "targets": ["es"]},
            "nllb": {"engine": "seq2seq", "seq2seq": {"model": str(name_model(tmp_path / "nllb"))}},
        },
    }
    full = load_config(config, ROOT)
    study = Study(full)
    codes = study.languages
    assert codes == ["en", "es", "it", "ko", "zh", "es-x-paid", *(f"{t}-x-nllb" for t in ("es", "it", "ko", "zh"))]
    specs = {code: study.engine(code) for code in codes[1:]}
    assert [specs[code]["engine"] for code in codes[1:7]] == ["memory", "memory", "llm", "memory", "deepl", "seq2seq"]
    assert specs["es-x-paid"]["options"]["formality"] == "more"
    assert specs["it-x-nllb"]["options"]["beams"] == 4


def test_variants_of_what_is_not_translated_are_refused(config, tmp_path):
    give(config, tmp_path, ["en", "es", "it", "ko", "zh"])
    config["translation"] = {"engine": "deepl", "variants": {"a": {"engine": "deepl"}}}
    with pytest.raises(StudyError, match="nothing is translated"):
        load_config(config, tmp_path)


def test_off_the_shelf_reward_models_need_neither_preferences_nor_a_base(config):
    for section in ("base_models", "preferences", "instructions", "held_out_instructions", "training"):
        del config[section]
    config["reward_models"] = {"random": {"kind": "random"}}
    full = load_config(config, ROOT)
    assert list(Study(full).parts) == ["sample"]


def test_a_study_judges_something(config):
    config |= {"base_models": {}, "reward_models": {}}
    with pytest.raises(StudyError, match="base_models: there are none, and no reward_models either"):
        load_config(config, ROOT)


def test_the_source_language_may_come_from_elsewhere(config, tmp_path):
    """M-RewardBench has no English: RewardBench is its source."""
    config["benchmarks"] = {
        "sample": {
            "path": "{language}.jsonl",
            "codes": "flores",
            "source": {"path": "english.jsonl"},
            "sections": "m_rewardbench",
        }
    }
    config["languages"]["targets"] = ["es"]
    config["base_models"] = {}
    config["reward_models"] = {"random": {"kind": "random"}}
    for name in ("preferences", "instructions", "held_out_instructions"):
        del config[name]
    (tmp_path / "spa_Latn.jsonl").write_text("{}\n")
    with pytest.raises(StudyError, match=r"benchmarks\.sample\.source\.path: 'english\.jsonl' does not exist"):
        load_config(config, tmp_path)
    (tmp_path / "english.jsonl").write_text("{}\n")
    load_config(config, tmp_path)


def test_the_published_studies_are_valid_once_the_paper_s_data_set_is_pinned():
    """Which commit of MP-86k the authors used is not known, and a branch can move: whoever runs the study says which."""
    for study in ("paper", "m_rewardbench"):
        config = yaml.safe_load((ROOT / f"studies/{study}.yaml").read_text(encoding="utf-8"))
        if study == "paper":
            with pytest.raises(StudyError, match=r"2 problems:\n  - preferences\.revision: 'main' is no commit"):
                load_config(config, ROOT)
            config["preferences"]["revision"] = config["held_out_instructions"]["revision"] = COMMIT
        assert load_config(config, ROOT).study == study


@pytest.mark.parametrize(
    "extra",
    [
        {"api_key": "sk-1"},
        {"Authorization": "sk-1"},
        {"metadata": [{"x-api-key": "sk-1"}]},
        {"extra_headers": {"a": "sk-1"}},
    ],
)
def test_a_secret_in_a_request_is_refused_and_not_repeated(config, extra):
    config["reward_models"] = {"x": {**JUDGE, "server": {**SERVER, "extra": extra}}}
    with pytest.raises(StudyError, match=r"no secret belongs into a configuration.* RM_JUDGE_API_KEY") as problem:
        load_config(config, ROOT)
    assert f"reward_models.x.server.extra.{next(iter(extra))}: " in str(problem.value)
    assert "sk-1" not in str(problem.value)


def test_fields_of_a_request_are_kept_as_they_are(config):
    extra = {"max_tokens": None, "max_completion_tokens": 9, "prompt_cache_key": "x", "logit_bias": {"7": -100}}
    config["reward_models"] = {"x": {**JUDGE, "server": {**SERVER, "extra": extra}}}
    plain = load_config(config, ROOT).plain()
    assert plain["reward_models"]["x"]["server"]["extra"] == extra
    assert load_config(plain, ROOT).plain() == plain


def test_no_judge_compares_pairs_of_rewardbench2(config):
    """Its Ties need a number for each answer; refused before anything is asked or translated."""
    rows = {"path": "resources/sample/benchmark.jsonl", "sections": "rewardbench2"}
    config["benchmarks"]["rb2"] = rows
    config["reward_models"] = {"x": JUDGE, "y": {**JUDGE, "mode": "rating"}}
    with pytest.raises(
        StudyError, match=r"1 problem:\n  - reward_models.x.mode: .* benchmarks.rb2 .* set mode: rating"
    ):
        load_config(config, ROOT)


def test_whose_ties_are_half_right(config):
    config["reward_models"] = {"x": {**JUDGE, "ties": "half"}, "y": JUDGE, "z": {"kind": "random"}}
    assert Study(load_config(config, ROOT)).ties_half == ["x"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            {"kind": "judge", "mode": "pairwise", "path": "gemma-3-270m"},
            "compares two answers and has no reward for one",
        ),
        ({"kind": "probe", "path": "gemma-3-270m"}, "reads hidden states, which sampled answers have not"),
    ],
)
def test_who_picks_an_answer_rates_single_ones(config, options, problem):
    config["reward_models"]["random"] = options
    config["alignment"]["reward_models"] = ["random"]
    with pytest.raises(StudyError, match=rf"1 problem:\n  - alignment.reward_models: 'random' {problem}"):
        load_config(config, ROOT)
