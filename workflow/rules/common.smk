"""What only Snakemake can say: the checked study, its wildcards, what a job asks of the machine."""

import gc
import sys
from pathlib import Path

from snakemake.common.tbdstring import TBDString

# Not workflow.basedir, which is that of whoever uses this as a module.
LIBRARY = Path(str(workflow.current_basedir)).parent
sys.path.insert(0, str(LIBRARY))

from rmtransfer.kit import stages
from rmtransfer.kit.errors import StudyError
from rmtransfer.kit.machine import computes_on_gpu, gpus_for_jobs, prepare_environment, threads_per_job
from rmtransfer.study.aligning import Aligning
from rmtransfer.study.config import load_config
from rmtransfer.study.layout import any_of
from rmtransfer.study.names import CONSTRAINTS, HELD_OUT, INSTRUCTIONS
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
AT, RESOURCES, ALIGNING = STUDY.at, STUDY.config.resources, Aligning(STUDY)
prepare_environment(LIBRARY, workflow.resource_settings.cores if HERE else None)
HEAVY = threads_per_job(RESOURCES.threads_per_job, workflow.resource_settings.cores, HERE, GPUS)
if GPUS:  # as many heavy jobs at a time as there are
    workflow.register_resource("gpu", GPUS)
ON_GPU = computes_on_gpu(RESOURCES.device, HERE, GPUS)
NEEDS = Needs(STUDY, Path.cwd(), gpu=ON_GPU, threads=HEAVY)
TEMPLATES = STUDY.templates(Path.cwd()) | ALIGNING.templates(
    Path.cwd()
)  # models by key whose chat templates have to render the rows
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


pathvars:
    logs=f"{AT.folder}/logs",


wildcard_constraints:
    base=any_of(STUDY.bases),
    language=any_of(STUDY.languages),
    part=any_of(STUDY.parts),
    benchmark=any_of(STUDY.benchmarks),
    reward_model=any_of(STUDY.all_scored),
