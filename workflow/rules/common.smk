"""What every stage shares: the validated config, the study's paths, and how much of the machine one job gets."""

import json
import re
import sys
from pathlib import Path

ROOT = Path.cwd()  # paths in the config start from where snakemake runs
LIBRARY = Path(workflow.basedir) / "workflow"

if str(LIBRARY) not in sys.path:
    sys.path.insert(0, str(LIBRARY))

from rmtransfer.kit import stages as versions
from rmtransfer.study.config import (
    MODEL_KEYS,
    TRANSLATE_TEST,
    back_spec,
    is_given,
    load_config,
    roles_of,
    study_languages,
)
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.machine import has_gpu, prepare_environment
from rmtransfer.study.languages import filled_in, split_variant
from rmtransfer.translation.engines import engine_spec

try:
    # Replaced in place: rules and Snakemake itself hold on to this dict.
    config.update(load_config(config, ROOT))
except StudyError as problem:
    raise WorkflowError(str(problem)) from None

prepare_environment(LIBRARY)

STUDY = f"results/{config['study']}"
SOURCE = config["languages"]["source"]
LANGUAGES = study_languages(config)
BASES = list(config["base_models"])
SEEDS = config["seeds"]
ROLES = roles_of(config)
BENCHMARKS = ["benchmark", *config["benchmarks"]]
# Below results/<study>/tables and figures: the main benchmark's in the folder itself, a further one's in its own.
AT = ["", *(f"{name}/" for name in config["benchmarks"])]
# Roles whose texts arrive in every language, and those that are translated.
GIVEN = [role for role, rows in ROLES.items() if is_given(rows)]
TRANSLATED = [role for role in ROLES if role not in GIVEN]
TRANSLATIONS = LANGUAGES[1:] if TRANSLATED else []
# What reward models are trained on: name of the training set to the share of each language in it.
TRAINING_SETS = {language: {language: 1} for language in LANGUAGES}
TRAINING_SETS.update(config["mixtures"])
# Languages whose benchmark is also translated back, and all that are then judged in the source language.
TRANSLATED_BACK = config["languages"]["targets"] if "translate_test" in config["translation"] else []
JUDGED_IN_SOURCE = [SOURCE, *TRANSLATED_BACK]

# Two heavy jobs at a time: imports and loads of one overlap the arithmetic of the other, and memory stays bounded
# however many cores there are. With a GPU, one at a time.
HEAVY = workflow.resource_settings.cores or 1  # none are given for a report
if not has_gpu():
    HEAVY = max(1, HEAVY // 2)

# The longest jobs go first, and those that others wait for before them: short ones then fill the end of the run, where
# long ones would each leave a core idle.
LONGEST_FIRST = {"train": 3, "score": 2, "embed": 1}


def any_of(names):
    """A wildcard constraint; of nothing, one that never matches."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    base=any_of(BASES),
    language=any_of(LANGUAGES),
    train_language=any_of(TRAINING_SETS),
    seed=r"\d+",
    role=any_of(ROLES),
    reward_model=any_of(config["reward_models"]),
    benchmark=any_of(config["benchmarks"]),
    # Where a benchmark's results lie below a folder: the main one's in the folder itself, a further one's in its own.
    at=f"(?:(?:{any_of(config['benchmarks'])})/)?",


def role_at(wildcards):
    """The benchmark behind the wildcard ``at``."""
    return Path(wildcards.at or "benchmark").name


def rows_of(role, language):
    """The rows of one role in one language, before selection."""
    if language == SOURCE:
        return f"{STUDY}/corpus/{role}.parquet"
    return f"{STUDY}/translations/{language}/{role}.parquet"


def all_rows_of(role):
    return [rows_of(role, language) for language in LANGUAGES]


def rows_in_source(language):
    """The benchmark in one language, translated back into the source language."""
    return f"{STUDY}/translations/{language}/benchmark.back.parquet"


def source_files(role, language):
    """The user's file behind a role, if it is a file."""
    rows = entry_of(role, language)
    language, _ = split_variant(language)
    return [filled_in(rows["path"], language, rows["codes"])] if "path" in rows else []


def entry_of(role, language):
    """The config entry that says where a role's rows in a language are."""
    rows = ROLES[role]
    own = rows.get("source", rows) if language == SOURCE else rows
    # How subsets are weighed decides nothing about the rows, except that RewardBench 2 lists its answers.
    kept = {k: v for k, v in own.items() if k not in ("source", "sections", "expected")}
    return {**kept, "sections": "rewardbench2"} if rows.get("sections") == "rewardbench2" else kept


RUN_A_MODEL = ("seq2seq", "llm")


def engine_of(language):
    """Who translates into a language, and how. A model that is one of the study's bases is taken from there."""
    return with_study_model(engine_spec(config["translation"], language))


def back_engine():
    """Who translates the benchmark back into the source language."""
    return with_study_model(back_spec(config))


def with_study_model(spec):
    if spec["engine"] == "llm" and spec["options"]["model"] in BASES:
        folder = f"{STUDY}/base_models/{spec['options']['model']}"
        spec["options"] = {**spec["options"], "model": folder}
    return spec


def engine_files(language):
    return files_of_engine(engine_of(language))


def files_of_engine(spec):
    """What an engine reads that the workflow knows of."""
    if spec["engine"] == "memory":
        return [spec["options"]]
    model = spec["options"].get("model", "")
    return [model] if model.startswith(f"{STUDY}/base_models/") else []


def runs_a_model(language):
    return engine_of(language)["engine"] in RUN_A_MODEL


def selected_ids(role):
    """The one id list of a role, once every text of the study is there in every language.

    Content counts, not age: rules take the list and the rows as ancient() input and pass digests of what is selected as a
    param. After a change upstream, Snakemake asks again once select_rows has run, and goes on only where something really
    changed: a translation that is made again may come out the same.
    """

    def ids(wildcards):
        checkpoints.select_rows.get()
        return f"{STUDY}/corpus/{role}.ids.jsonl"

    return ids


def selected_ids_at(wildcards):
    """The id list of the benchmark that the wildcards name."""
    role = wildcards.benchmark if "benchmark" in wildcards.keys() else role_at(wildcards)
    return selected_ids(role)(wildcards)


def selected_content(role, *languages):
    """What the selected rows of a role hold in some languages, as digests."""
    digests = json.loads(Path(checkpoints.select_rows.get().output.digests).read_text(encoding="utf-8"))
    return [digests[role][language] for language in languages]


def per_language(folder, suffix, slash="/"):
    return expand(
        f"{STUDY}/{folder}{slash}{{language}}{suffix}",
        language=LANGUAGES,
        allow_missing=True,
    )


def models():
    """(base model, training set, seed) of every reward model of our own, as strings."""
    return [(b, t, str(s)) for b in BASES for t in TRAINING_SETS for s in SEEDS]


def judges(role):
    """(labels, folder below scores/) of everything that judges a benchmark: one row of its tables each."""
    rows = [((b, t, s), f"{b}/{t}/seed{s}") for b, t, s in models()]
    if TRANSLATED_BACK and role == "benchmark":
        rows += [((b, TRANSLATE_TEST, s), f"{b}/{TRANSLATE_TEST}/seed{s}") for b in BASES for s in map(str, SEEDS)]
    return rows + [((name, "-", "0"), name) for name in config["reward_models"]]


def models_of_judge(wildcards):
    """The folders that an off-the-shelf reward model is loaded from: its own, fetched, or a base model of the study."""
    folders = {}
    for key in MODEL_KEYS:
        model = config["reward_models"][wildcards.reward_model].get(key)
        if model in BASES:
            folders[key] = f"{STUDY}/base_models/{model}"
        elif model is not None:
            local = (ROOT / Path(model).expanduser()).is_dir()
            folders[key] = model if local else f"{STUDY}/reward_models/{wildcards.reward_model}/{key}"
    return folders


def judges_with_a_model(wildcards):
    return config["reward_models"][wildcards.reward_model].keys() & {"path", "policy"} != set()


def scores_of(role):
    """The score files of a benchmark, judge by judge in the order of judges(), each in every language."""
    at = "" if role == "benchmark" else f"{role}/"
    return [
        f"{STUDY}/scores/{folder}/{at}{language}.parquet"
        for (_, train, _), folder in judges(role)
        for language in (JUDGED_IN_SOURCE if train == TRANSLATE_TEST else LANGUAGES)
    ]


def state_models():
    """Folders below hidden_states/ with the labels of their model: the bases first, then the reward models."""
    bases = [((b, "base", ""), f"{b}/base") for b in BASES]
    return bases + [((b, t, s), f"{b}/{t}/seed{s}") for b, t, s in models()]


def figure(name, category, at=""):
    """PNG with its caption for the report, and PDF for a paper."""
    png = report(
        f"{STUDY}/figures/{at}{name}.png",
        caption=f"../report/{name}.rst",
        category=category,
        labels={"figure": at + name.replace("_", " ")},
    )
    return [png, f"{STUDY}/figures/{at}{name}.pdf"]


def resource(name):
    """A setting that decides how fast, never what: resources do not trigger reruns."""
    return config["resources"][name]


def print_answer():
    answer = Path(f"{STUDY}/tables/answer.txt")
    if answer.is_file():
        print(f"\n{answer.read_text(encoding='utf-8').strip()}\nResults: {STUDY}/")
