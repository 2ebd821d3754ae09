"""Train-language x eval-language accuracy, what differs beyond chance, and the study's answer.

In:  all scores of a benchmark; benchmark prompts that are also in the training data.
Out: tables/<benchmark>/transfer.csv and the tables beside it, tables/<benchmark>/answer.txt, tables/variance.csv.
"""

from rmtransfer.transfer.measures import MEASURES


rule evaluate_transfer:
    input:
        scores=lambda wildcards: STUDY.score_files(wildcards.benchmark),
        contaminated=AT.contaminated,
    output:
        **{table: AT.benchmark_table.fill(table=table) for table in MEASURES},
        answer=AT.answer,
    log:
        "<logs>/evaluate_transfer/{benchmark}.log",
    conda:
        "../../envs/analyse.yaml"
    resources:
        **asks(lambda wildcards: NEEDS.comparing(wildcards.benchmark)),
    params:
        source=STUDY.source,
        bases=STUDY.bases,
        trained_in={train: STUDY.trained_in(train) for train in STUDY.training_sets},
        sections=lambda wildcards: STUDY.sections(wildcards.benchmark),
        ties_half=STUDY.ties_half,
        native=lambda wildcards: STUDY.native.get(wildcards.benchmark),
        version=stages.TRANSFER.version,
    script:
        "../scripts/evaluate_transfer.py"


rule gather_variance:
    input:
        variance=expand(AT.benchmark_table, benchmark=STUDY.benchmarks, table="variance"),
    output:
        table=AT.table.fill(table="variance"),
    log:
        "<logs>/gather_variance.log",
    conda:
        "../../envs/analyse.yaml"
    resources:
        **LIGHT,
    params:
        version=stages.VARIANCE.version,
    script:
        "../scripts/gather_variance.py"


rule write_paper_tables:
    input:
        **{table: AT.benchmark_table.fill(table=table) for table in ("seeds", "significance", "headline")},
    output:
        latex=AT.paper_table.fill(format="tex"),
        markdown=AT.paper_table.fill(format="md"),
    log:
        "<logs>/write_paper_tables/{benchmark}.log",
    conda:
        "../../envs/analyse.yaml"
    resources:
        **LIGHT,
    params:
        source=STUDY.source,
        origins=lambda wildcards: {k: origin for k, (origin, _) in STUDY.origins[wildcards.benchmark].items()},
        version=stages.PAPER_TABLES.version,
    script:
        "../scripts/write_paper_tables.py"
