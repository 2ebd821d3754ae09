"""What would run and why, and what is kept of earlier runs: for reading, nothing is made of it.

In:  the study's configuration, what Snakemake noted of each job's last run, what is kept.
Out: nothing but what they print.
"""


localrules:
    why,
    kept,


rule why:
    """snakemake why --cores 1: which jobs would run, and what changed since they last did."""
    log:
        "<logs>/why.log",
    conda:
        "../../envs/translate.yaml"
    resources:
        **LIGHT,
    params:
        gpu=ON_GPU,
        # With what this run was started, for the one that it looks at.
        started=lambda wildcards: {
            "snakefile": workflow.main_snakefile,
            "configfiles": list(map(str, workflow.overwrite_configfiles)),
            "config": dict(workflow.config_settings.config),
            "triggers": [trigger.item_to_choice() for trigger in workflow.rerun_triggers],
            "deployment": list(workflow.deployment_settings.deployment_method),
        },
    script:
        "../scripts/why.py"


rule kept:
    """snakemake kept --cores 1: the models and answers of earlier settings, and what deletes them."""
    log:
        "<logs>/kept.log",
    conda:
        "../../envs/analyse.yaml"
    resources:
        **LIGHT,
    script:
        "../scripts/kept.py"
