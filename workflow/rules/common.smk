"""What only Snakemake can say: the checked study, its wildcards, a heavy job's share of the machine, what is selected."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

from snakemake.exceptions import IncompleteCheckpointException
from snakemake.io import checkpoint_target
from snakemake.logging import logger
from snakemake.persistence import PersistenceBase

LIBRARY = Path(workflow.basedir) / "workflow"
sys.path.insert(0, str(LIBRARY))

from rmtransfer.kit import stages
from rmtransfer.kit.damage import explained
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.machine import gpus_for_jobs, prepare_environment, threads_per_job
from rmtransfer.kit.running import describe, only_run
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
DEVICE = {"tokens_per_batch": RESOURCES.tokens_per_batch, "device": RESOURCES.device}
FIRST, SECOND, THIRD = 3, 2, 1  # the longest jobs, and those that others wait for: short ones fill the end of the run


@contextmanager
def alone(persistence, locked=PersistenceBase.lock):
    """Snakemake's lock, which outlives a run that is killed, under one that does not."""
    folder = Path(AT.folder)
    if not any(persistence.all_outputfiles()):  # a plan can be asked for while a run is at work
        yield
        return
    try:
        with only_run(folder, persistence.path / "locks", logger.warning), locked(persistence):
            yield
    except StudyError as problem:
        raise WorkflowError(str(problem)) from None
    except OSError as problem:  # Snakemake's own
        if (said := explained(problem, folder, ())) is None:
            raise
        raise WorkflowError(said) from None


@contextmanager
def only_told(persistence):
    """In place of the lock, where nothing is going to be written."""
    if found := describe(Path(AT.folder), persistence.path / "locks"):
        logger.warning(found)
    yield


PersistenceBase.lock, PersistenceBase.lock_warn_only = alone, only_told


def selection():
    """What selection wrote. Where one of its files is lost, it has to be asked for: Snakemake would ask for the first of them,
    and give that to the job in place of the one that the job asks for.
    """
    try:
        return checkpoints.select_rows.get().output
    except IncompleteCheckpointException as waiting:
        lost = [path for path in rules.select_rows.output if not Path(path).exists()]
        waiting.targetfile = checkpoint_target(lost[0]) if lost else waiting.targetfile
        raise


def ids_of(part):
    """The id list of a part, once every text of the study is there. Content counts, not age: rules take it and the rows as
    ancient() input and pass content_of() as a param, so that what is made again and comes out the same reruns nothing.
    """

    def ids(wildcards):
        selection()
        return AT.ids.fill(part=part.format(**dict(wildcards.items())))

    return ids


def content_of(part, languages):
    digests = json.loads(Path(selection().digests).read_text("utf-8"))[part]
    return [digests[language] for language in languages]


pathvars:
    logs=f"{AT.folder}/logs",


wildcard_constraints:
    base=any_of(STUDY.bases),
    language=any_of(STUDY.languages),
    part=any_of(STUDY.parts),
    benchmark=any_of(STUDY.benchmarks),
    reward_model=any_of(STUDY.all_scored),
