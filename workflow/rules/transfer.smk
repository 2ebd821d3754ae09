"""Train-language x eval-language accuracy, what differs beyond chance, and the study's answer.

In:  all scores of a benchmark; benchmark prompts that are also in the training data.
Out: tables/transfer.csv and the tables beside it (tables/<benchmark>/ for further benchmarks), tables/answer.txt.
"""

TABLES = [
    "transfer",
    "transfer_clean",
    "length_baseline",
    "seeds",
    "significance",
    "consistency",
    "rewards",
    "calibration",
    "length_bias",
]


rule find_contamination:
    input:
        training=f"{STUDY}/corpus/preferences.parquet" if "preferences" in ROLES else [],
        benchmark=lambda wildcards: f"{STUDY}/corpus/{role_at(wildcards)}.parquet",
    output:
        flagged=f"{STUDY}/corpus/{{at}}contaminated.csv",
    log:
        f"{STUDY}/logs/find_contamination/{{at}}contamination.log",
    benchmark:
        f"{STUDY}/benchmarks/find_contamination/{{at}}contamination.tsv"
    conda:
        "../../envs/translate.yaml"
    params:
        version=versions.CONTAMINATION,
    script:
        "../scripts/find_contamination.py"


rule evaluate_transfer:
    input:
        scores=lambda wildcards: scores_of(role_at(wildcards)),
        contaminated=f"{STUDY}/corpus/{{at}}contaminated.csv",
    output:
        **{table: f"{STUDY}/tables/{{at}}{table}.csv" for table in TABLES},
        answer=f"{STUDY}/tables/{{at}}answer.txt",
    log:
        f"{STUDY}/logs/evaluate_transfer/{{at}}transfer.log",
    benchmark:
        f"{STUDY}/benchmarks/evaluate_transfer/{{at}}transfer.tsv"
    conda:
        "../../envs/analyse.yaml"
    params:
        judges=lambda wildcards: [labels for labels, _ in judges(role_at(wildcards))],
        source=SOURCE,
        sections=lambda wildcards: ROLES[role_at(wildcards)]["sections"],
        version=versions.TRANSFER,
    script:
        "../scripts/evaluate_transfer.py"


rule write_paper_tables:
    input:
        transfer=f"{STUDY}/tables/{{at}}transfer.csv",
    output:
        latex=f"{STUDY}/tables/{{at}}paper.tex",
        markdown=f"{STUDY}/tables/{{at}}paper.md",
    log:
        f"{STUDY}/logs/write_paper_tables/{{at}}paper.log",
    benchmark:
        f"{STUDY}/benchmarks/write_paper_tables/{{at}}paper.tsv"
    conda:
        "../../envs/analyse.yaml"
    params:
        source=SOURCE,
        version=versions.PAPER_TABLES,
    script:
        "../scripts/write_paper_tables.py"
