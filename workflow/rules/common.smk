"""What only Snakemake can say: the checked study, its wildcards, a heavy job's share of the machine, what is selected."""

import json
import sys
from pathlib import Path

LIBRARY = Path(workflow.basedir) / "workflow"
sys.path.insert(0, str(LIBRARY))

from rmtransfer.kit import stages
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.machine import gpus_for_jobs, prepare_environment, threads_per_job
from rmtransfer.study.config import load_config
from rmtransfer.study.layout import any_of
from rmtransfer.study.study import RewardModelId, Study

HERE = workflow.local_exec and not workflow.remote_exec  # a job that was sent to a node parses this again there
LIMIT = getattr(workflow.global_resources.get("gpu"), "value", None)  # --resources gpu=
try:
    STUDY = Study(load_config(config, Path.cwd()))  # paths in the config start from where snakemake runs
    GPUS = gpus_for_jobs(STUDY.config.resources.device, STUDY.config.training.processes, HERE, LIMIT)
except StudyError as problem:
    raise WorkflowError(str(problem)) from None
config.update(STUDY.config.plain())  # in place, because rules and Snakemake itself hold on to this dict
AT, RESOURCES = STUDY.at, STUDY.config.resources
prepare_environment(LIBRARY, workflow.resource_settings.cores if HERE else None)
HEAVY = threads_per_job(RESOURCES.threads_per_job, workflow.resource_settings.cores, HERE, GPUS)
if GPUS:  # as many heavy jobs at a time as there are
    workflow.register_resource("gpu", GPUS)
TEMPLATES = STUDY.templates(Path.cwd())  # models by key whose chat templates have to render the rows
DEVICE = {"tokens_per_batch": RESOURCES.tokens_per_batch, "device": RESOURCES.device}
FIRST, SECOND, THIRD = 3, 2, 1  # the longest jobs, and those that others wait for: short ones fill the end of the run


def ids_of(part):
    """The id list of a part, once every text of the study is there. Content counts, not age: rules take it and the rows as
    ancient() input and pass content_of() as a param, so that what is made again and comes out the same reruns nothing.
    """

    def ids(wildcards):
        checkpoints.select_rows.get()
        return AT.ids.fill(part=part.format(**dict(wildcards.items())))

    return ids


def content_of(part, languages):
    digests = json.loads(Path(checkpoints.select_rows.get().output.digests).read_text("utf-8"))[part]
    return [digests[language] for language in languages]


pathvars:
    logs=f"{AT.folder}/logs",


wildcard_constraints:
    base=any_of(STUDY.bases),
    language=any_of(STUDY.languages),
    part=any_of(STUDY.parts),
    benchmark=any_of(STUDY.benchmarks),
    reward_model=any_of(STUDY.all_scored),
