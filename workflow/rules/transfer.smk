"""Train-language x eval-language accuracy, what differs beyond chance, and the study's answer.

In:  all scores of a benchmark; benchmark prompts that are also in the training data.
Out: tables/<benchmark>/transfer.csv and the tables beside it, tables/<benchmark>/answer.txt.
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
    params:
        source=STUDY.source,
        sections=lambda wildcards: STUDY.sections(wildcards.benchmark),
        version=stages.TRANSFER.version,
    script:
        "../scripts/evaluate_transfer.py"


rule write_paper_tables:
    input:
        transfer=AT.benchmark_table.fill(table="transfer"),
    output:
        latex=AT.paper_table.fill(format="tex"),
        markdown=AT.paper_table.fill(format="md"),
    log:
        "<logs>/write_paper_tables/{benchmark}.log",
    conda:
        "../../envs/analyse.yaml"
    params:
        source=STUDY.source,
        version=stages.PAPER_TABLES.version,
    script:
        "../scripts/write_paper_tables.py"
