"""Whether the machines that jobs will run on are what they ask for.

In:  nothing.
Out: a line for each GPU, on the terminal.
"""


localrules:
    gpu_check,


rule gpu_check:
    """snakemake gpu_check --cores 1: GPUs, bf16 products a second, free memory, where a heavy job would run."""
    input:
        shown=f"{AT.folder}/.work/gpu_check.txt",
    log:
        "<logs>/gpu_check.log",
    conda:
        "../../envs/train.yaml"
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
