"""Whether the machines that jobs will run on are what they ask for.

In:  nothing.
Out: a line for each GPU, on the terminal.
"""

from rmtransfer.kit.cluster import Request, check_queue, check_requests, check_status_command


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


localrules:
    gpu_check,


rule gpu_check:
    """snakemake gpu_check --cores 1: GPUs, bf16 products a second, free memory, where a heavy job would run."""
    input:
        shown=f"{AT.folder}/.work/gpu_check.txt",
    log:
        "<logs>/gpu_check.log",
    shell:
        "tee {log} < {input.shown}"


# Where jobs run. What it writes is not kept, so that every call measures again.
rule measure_gpus:
    output:
        shown=temp(f"{AT.folder}/.work/gpu_check.txt"),
    log:
        "<logs>/measure_gpus.log",
    conda:
        "../../envs/train.yaml"
    resources:
        mem_mb=8000,
        runtime=10,
        gpu=max(GPUS, STUDY.config.training.processes),
        tasks=0,
        network=0,
    script:
        "../scripts/measure_gpus.py"
