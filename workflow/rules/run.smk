"""A run of the study: alone at its results, and only where the machines have what its jobs ask for.

In:  Snakemake's lock, the jobs that would run.
Out: nothing but messages, before the first job.
"""

from contextlib import contextmanager

from snakemake.logging import logger
from snakemake.persistence import PersistenceBase

from rmtransfer.kit.cluster import Request, check_queue, check_requests, check_status_command
from rmtransfer.kit.damage import explained
from rmtransfer.kit.devices import check_devices
from rmtransfer.kit.running import describe, only_run


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


# Snakemake calls nothing of a workflow's before it takes its lock.
PersistenceBase.lock, PersistenceBase.lock_warn_only = alone, only_told


def refuse_without_gpus():
    """Before anything is computed or paid for: on this machine, jobs that ask for a GPU which it does not have."""
    if HERE:
        try:
            check_devices(max((job.resources.get("gpu", 0) for job in workflow.dag.needrun_jobs()), default=0))
        except StudyError as problem:
            raise WorkflowError(str(problem)) from None


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


onstart:
    refuse_without_gpus()
    refuse_beyond_the_cluster()
