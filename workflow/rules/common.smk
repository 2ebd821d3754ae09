"""What every stage shares: the validated config, the study's paths, and how much of the machine one job gets."""

import json
import sys
from pathlib import Path

ROOT = Path.cwd()  # paths in the config start from where snakemake runs
LIBRARY = Path(workflow.basedir) / "workflow"

if str(LIBRARY) not in sys.path:
    sys.path.insert(0, str(LIBRARY))

from rmtransfer import versions
from rmtransfer.config import ROLES, load_config, study_languages
from rmtransfer.errors import StudyError
from rmtransfer.machine import has_gpu, prepare_environment
from rmtransfer.languages import split_variant
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
# Roles whose texts arrive in every language, and those that are translated.
GIVEN = [role for role in ROLES if "{language}" in config[role].get("path", "")]
TRANSLATED = [role for role in ROLES if role not in GIVEN]
TRANSLATIONS = LANGUAGES[1:] if TRANSLATED else []

# Two heavy jobs at a time: imports and loads of one overlap the arithmetic of the other, and memory stays bounded
# however many cores there are. With a GPU, one at a time.
HEAVY = workflow.resource_settings.cores or 1  # none are given for a report
if not has_gpu():
    HEAVY = max(1, HEAVY // 2)

# The longest jobs go first, and those that others wait for before them: short ones then fill the end of the run, where
# long ones would each leave a core idle.
LONGEST_FIRST = {"train": 3, "score": 2, "embed": 1}


wildcard_constraints:
    base="[^/]+",
    language="[^/]+",
    train_language="[^/]+",
    seed=r"\d+",
    role="|".join(ROLES),


def any_of(names):
    """A wildcard constraint; of nothing, one that never matches."""
    return "|".join(names) or "(?!)"


def rows_of(role, language):
    """The rows of one role in one language, before selection."""
    if language == SOURCE:
        return f"{STUDY}/corpus/{role}.parquet"
    return f"{STUDY}/translations/{language}/{role}.parquet"


def all_rows_of(role):
    return [rows_of(role, language) for language in LANGUAGES]


def source_files(role, language):
    """The user's file behind a role, if it is a file."""
    rows = config[role]
    return [rows["path"].replace("{language}", split_variant(language)[0])] if "path" in rows else []


def engine_of(language):
    """Who translates into a language, and how. A model that is one of the study's bases is taken from there."""
    spec = engine_spec(config["translation"], language)
    if spec["engine"] == "llm" and spec["options"]["model"] in BASES:
        folder = f"{STUDY}/base_models/{spec['options']['model']}"
        spec["options"] = {**spec["options"], "model": folder}
    return spec


def engine_files(language):
    """What an engine reads that the workflow knows of."""
    spec = engine_of(language)
    if spec["engine"] == "memory":
        return [spec["options"]]
    model = spec["options"].get("model", "")
    return [model] if model.startswith(f"{STUDY}/base_models/") else []


def runs_a_model(language):
    return engine_of(language)["engine"] in ("seq2seq", "llm")


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


def selected_content(role, *languages):
    """What the selected rows of a role hold in some languages, as digests."""
    digests = json.loads(Path(checkpoints.select_rows.get().output.digests).read_text(encoding="utf-8"))
    return [digests[role][language] for language in languages]


def per_language(folder, suffix):
    return expand(
        f"{STUDY}/{folder}/{{language}}{suffix}",
        language=LANGUAGES,
        allow_missing=True,
    )


def models():
    """(base model, training language, seed) of every reward model, as strings."""
    return [(b, t, str(s)) for b in BASES for t in LANGUAGES for s in SEEDS]


def state_models():
    """Folders below hidden_states/ with the labels of their model: the bases first, then the reward models."""
    bases = [((b, "base", ""), f"{b}/base") for b in BASES]
    return bases + [((b, t, s), f"{b}/{t}/seed{s}") for b, t, s in models()]


def figure(name, category):
    """PNG with its caption for the report, and PDF for a paper."""
    png = report(
        f"{STUDY}/figures/{name}.png",
        caption=f"../report/{name}.rst",
        category=category,
        labels={"figure": name.replace("_", " ")},
    )
    return [png, f"{STUDY}/figures/{name}.pdf"]


def resource(name):
    """A setting that decides how fast, never what: resources do not trigger reruns."""
    return config["resources"][name]


def print_answer():
    answer = Path(f"{STUDY}/tables/answer.txt")
    if answer.is_file():
        print(f"\n{answer.read_text(encoding='utf-8').strip()}\nResults: {STUDY}/")
