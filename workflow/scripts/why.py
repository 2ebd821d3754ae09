"""Print which jobs would run, and why."""

from rmtransfer.study.job import start_job

job = start_job(snakemake)

import contextlib
import io
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.io import is_flagged
from snakemake.settings import types
from snakemake.settings.enums import ChangeType, Quietness, RerunTrigger

from rmtransfer.report.why import Pending, Record, print_why

UNKNOWN = "<TBD>"  # Snakemake's value of what a checkpoint has yet to tell


def pending_jobs(started):
    """Plain data of the jobs that would run, each after those that it reads from; none of them starts, nothing is locked."""
    output = types.OutputSettings(quiet={Quietness.ALL}, enable_file_logging=False)
    with SnakemakeApi(output) as api:
        study = api.workflow(
            types.ResourceSettings(cores=1),
            types.ConfigSettings(config=started["config"], configfiles=list(map(Path, started["configfiles"]))),
            deployment_settings=types.DeploymentSettings(deployment_method=frozenset(started["deployment"])),
            snakefile=Path(started["snakefile"]),
        )
        triggers = RerunTrigger.parse_choices_set(started["triggers"])
        settings = types.DAGSettings(rerun_triggers=triggers, force_incomplete=True)
        with contextlib.redirect_stdout(io.StringIO()):
            study.dag(settings).list_changes(ChangeType.INPUT)  # builds the DAG as a run would, and does little besides
        return study._workflow.async_run(plain(study._workflow.dag))


async def plain(dag):
    run = set(dag.needrun_jobs())
    # What depends on a checkpoint that is pending Snakemake looks at when that has run, and leaves out until then.
    run.update(dag.bfs(dag.depending, *[these for these in run if these.is_checkpoint]))
    run = {these for these in run if not these.rule.norun}
    those = [these for level in dag.toposorted() for these in sorted(run.intersection(level), key=named)]
    number = {these: place for place, these in enumerate(those)}
    return [await plain_job(dag, these, number) for these in those]


def named(these):
    return these.rule.name, *these.wildcards_dict.values()


async def plain_job(dag, these, number):
    """See rmtransfer.report.why.Pending. Snakemake looks no further where one reason suffices; here all are wanted."""
    notes, triggers = dag.workflow.persistence, dag.workflow.rerun_triggers
    noted = next(filter(None, map(notes.metadata, these.output)), None)
    known = {name: value for name, value in these.params.items() if str(value) != UNKNOWN}
    waits = len(known) < len(these.params) or any(is_flagged(file, "checkpoint_target") for file in these.input)
    now = Record([], notes._input(these), notes._conda_env(these) or "", notes._software_stack_hash(these))
    then = noted and Record(
        noted.params or [], noted.input or [], noted.conda_env or "", noted.software_stack_hash or ""
    )
    if then:  # what is told to trigger nothing has not changed
        if RerunTrigger.PARAMS not in triggers:
            then = then._replace(params=list(map(repr, known.values())))
        if RerunTrigger.INPUT not in triggers:
            then = then._replace(input=now.input)
        if RerunTrigger.SOFTWARE_ENV not in triggers:
            then = then._replace(deployed=now.deployed)
    newer, made = dag.reason(these).updated_input, set().union(*dag.dependencies[these].values())
    return Pending(
        rule=these.rule.name,
        wildcards=these.wildcards_dict,
        script=Path(these.rule.script or "").stem,
        output=str(these.output[0]) if these.output else "",
        base=str(these.input.get("base", "")),
        params=known,
        record=then,
        current=now,
        missing=[str(file) for file in these.output if not await file.exists()],
        incomplete=[str(file) for file in await notes.incomplete(these)],
        updated=sorted(map(str, newer - made)),
        remade=bool(newer & made),
        edited=RerunTrigger.CODE in triggers
        and any([True async for _ in these.outputs_older_than_script_or_notebook()]),
        after=[
            number[other]
            for other, files in dag.dependencies[these].items()
            if other in number and any([await matters(file) for file in files])
        ],
        waits=waits,
    )


async def matters(file):
    """Whether a job runs because this input of it is made again."""
    return not is_flagged(file, "checkpoint_target") and not (file.is_ancient and await file.exists())


print_why(job.config, pending_jobs(job.params.started), job.root, gpu=job.params.gpu)
