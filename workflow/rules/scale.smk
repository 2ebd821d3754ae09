"""Accuracy by number of training pairs and by size of the base model, for a study that has several of either.

In:  scores of the reward models trained in one language, or a part of it; one of them for its number of pairs, and
     base_models/<base>/ for its number of parameters.
Out: tables/<benchmark>/scaling.csv.
"""


rule evaluate_scaling:
    input:
        scores=lambda wildcards: STUDY.score_files(wildcards.benchmark, STUDY.scaled_sets),
        # How many pairs a whole training set is: other pairs are other scores.
        whole=ancient(AT.model.fill(reward_model=STUDY.reward_models[0].id) if STUDY.bases else []),
        bases=ancient(expand(AT.base_model, base=STUDY.bases)),
    output:
        table=AT.benchmark_table.fill(table="scaling"),
    log:
        "<logs>/evaluate_scaling/{benchmark}.log",
    conda:
        "../../envs/analyse.yaml"
    resources:
        **asks(lambda wildcards: NEEDS.comparing(wildcards.benchmark)),
    params:
        sections=lambda wildcards: STUDY.sections(wildcards.benchmark),
        targets=STUDY.targets,
        training_sets={name: list(these) for name, these in STUDY.scaled_sets.items()},
        version=stages.SCALING.version,
    script:
        "../scripts/evaluate_scaling.py"
