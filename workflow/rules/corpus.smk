"""Rows in, validated, one schema.

In:  the files or hub data sets that the config names.
Out: corpus/<part>.parquet, and corpus/<part>.rejected.csv with every rejected row and the reason; the same below
     translations/<language>/ for parts that are given in every language.
"""


# On a cluster the head node reads: it is the one with a network, and every later job finds the rows on disk.
localrules:
    read_rows,
    read_given_rows,


rule read_rows:
    input:
        lambda wildcards: STUDY.source_files(wildcards.part, STUDY.source),
    output:
        rows=AT.source_rows,
    log:
        "<logs>/read_rows/{part}.log",
    conda:
        "../../envs/translate.yaml"
    resources:
        # Decides whether rows are refused, and nothing about those that are not.
        sections=lambda wildcards: STUDY.sections(wildcards.part),
    params:
        entry=lambda wildcards: STUDY.entry(wildcards.part, STUDY.source),
        language=STUDY.source,
        # Kept when the job fails, unlike outputs: it says why.
        ledger=AT.rejected,
        version=stages.CORPUS.version,
    script:
        "../scripts/read_rows.py"


use rule read_rows as read_given_rows with:
    input:
        lambda wildcards: STUDY.source_files(wildcards.part, wildcards.language),
    output:
        rows=AT.translated_rows,
    log:
        "<logs>/read_given_rows/{language}.{part}.log",
    wildcard_constraints:
        part=any_of(STUDY.given),
    params:
        entry=lambda wildcards: STUDY.entry(wildcards.part, wildcards.language),
        language=lambda wildcards: STUDY.plain_language(wildcards.language),
        ledger=AT.translated_rejected,
        version=stages.CORPUS.version,


rule find_contamination:
    """Benchmark prompts that are also in the training data."""
    input:
        training=AT.source_rows.fill(part="preferences") if STUDY.bases else [],
        benchmark=AT.source_rows.fill(part="{benchmark}"),
    output:
        flagged=AT.contaminated,
    log:
        "<logs>/find_contamination/{benchmark}.log",
    conda:
        "../../envs/translate.yaml"
    params:
        version=stages.CONTAMINATION.version,
    script:
        "../scripts/find_contamination.py"
