"""What only Snakemake can say: the checked study, its wildcards, what a job asks of the machine, what is selected."""

import functools
import gc
import json
import sys
from contextlib import contextmanager
from pathlib import Path

from snakemake.common.tbdstring import TBDString
from snakemake.exceptions import IncompleteCheckpointException
from snakemake.io import checkpoint_target
from snakemake.logging import logger
from snakemake.persistence import PersistenceBase

# Not workflow.basedir, which is that of whoever uses this as a module.
LIBRARY = Path(str(workflow.current_basedir)).parent
sys.path.insert(0, str(LIBRARY))

from rmtransfer.kit import stages
from rmtransfer.kit.cluster import Request, check_queue, check_requests, check_status_command
from rmtransfer.kit.damage import explained
from rmtransfer.kit.devices import check_devices
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.machine import computes_on_gpu, gpus_for_jobs, prepare_environment, threads_per_job
from rmtransfer.kit.running import describe, only_run
from rmtransfer.study.config import load_config
from rmtransfer.study.layout import any_of
from rmtransfer.study.needs import SMALL, Needs, UnknownSizeError
from rmtransfer.study.study import RewardModelId, Study

gc.set_threshold(100_000, 50, 50)  # a DAG stays as it grows: looking through it for garbage is a tenth of planning
# Nodes are given where jobs are sent elsewhere; which executor does it is not known yet. On a node this is parsed again.
HERE = workflow.resource_settings.nodes is None and not workflow.remote_exec
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
ON_GPU = computes_on_gpu(RESOURCES.device, HERE, GPUS)
NEEDS = Needs(STUDY, Path.cwd(), gpu=ON_GPU, threads=HEAVY)
TEMPLATES = STUDY.templates(Path.cwd())  # models by key whose chat templates have to render the rows
DEVICE = {"tokens_per_batch": RESOURCES.tokens_per_batch, "device": RESOURCES.device}
FIRST, SECOND, THIRD = 3, 2, 1  # the longest jobs, and those that others wait for: short ones fill the end of the run


def asks(need, gpu=0, network=0):
    """The resources of a rule's jobs; to be determined where a size is not known yet.

    Args:
        need: of wildcards, what a job needs (study/needs.py).
        gpu: how many GPUs it takes, a function of wildcards or a number.
        network: 1 if it downloads, or asks a service; likewise.
    """

    def resource(name):
        def of(wildcards, attempt):
            try:
                return need(wildcards).asked(attempt)[name]
            except UnknownSizeError:
                return TBDString()

        return of

    return {**{name: resource(name) for name in SMALL.asked()}, "gpu": gpu, "network": network}


LIGHT = asks(lambda wildcards: SMALL)


def refuse_without_gpus():
    """Before anything is computed or paid for: on this machine, jobs that ask for a GPU which it does not have."""
    if HERE:
        try:
            check_devices(max((job.resources.get("gpu", 0) for job in workflow.dag.needrun_jobs()), default=0))
        except StudyError as problem:
            raise WorkflowError(str(problem)) from None


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


@functools.cache  # once they are there: before, the checkpoint raises
def selected():
    return json.loads(Path(selection().digests).read_text("utf-8"))


def content_of(part, languages):
    return [selected()[part][language] for language in languages]


def refuse_beyond_the_cluster():
    """Before the first job is sent to SLURM: an accounting or partitions that it has not, limits that jobs exceed, older jobs."""
    if workflow.executor_plugin.name != "slurm":
        return
    settings = workflow.executor_settings
    jobs = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
    if settings.partition_config:  # the plugin will choose
        jobs = [job for job in jobs if job.resources.get("slurm_partition")]
    try:
        check_status_command(settings.status_command, settings.init_seconds_before_status_checks)
        check_queue(Path.cwd())
        check_requests(Request.of(job.rule.name, job.resources, job.threads) for job in jobs)
    except StudyError as problem:
        raise WorkflowError(str(problem)) from None


pathvars:
    logs=f"{AT.folder}/logs",


wildcard_constraints:
    base=any_of(STUDY.bases),
    language=any_of(STUDY.languages),
    part=any_of(STUDY.parts),
    benchmark=any_of(STUDY.benchmarks),
    reward_model=any_of(STUDY.all_scored),
