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
        **asks(
            lambda wildcards: NEEDS.importing(wildcards.part),
            network=lambda wildcards: int(
                "hub" in STUDY.entry(wildcards.part, wildcards.get("language", STUDY.source))
            ),
        ),
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
        # A set that was written in its language is the original itself.
        original=lambda wildcards: [] if wildcards.part in STUDY.native else AT.source_rows.fill(part=wildcards.part),
    output:
        rows=AT.translated_rows,
    log:
        "<logs>/read_given_rows/{language}.{part}.log",
    wildcard_constraints:
        part=any_of(STUDY.given),
        language=any_of(language for language in STUDY.languages if language not in STUDY.round_trips),
    params:
        entry=lambda wildcards: STUDY.entry(wildcards.part, wildcards.language),
        language=lambda wildcards: STUDY.plain_language(wildcards.language),
        ledger=AT.translated_rejected,
        version=stages.CORPUS.version,


rule find_contamination:
    """Benchmark prompts that are also in the training data: in the source language, or in that of a native set."""
    input:
        training=lambda wildcards: (
            AT.rows("preferences", STUDY.languages_of(wildcards.benchmark)[0]) if STUDY.bases else []
        ),
        benchmark=lambda wildcards: STUDY.rows(wildcards.benchmark)[0],
    output:
        flagged=AT.contaminated,
    log:
        "<logs>/find_contamination/{benchmark}.log",
    conda:
        "../../envs/translate.yaml"
    resources:
        **asks(
            lambda wildcards: NEEDS.going_through([wildcards.benchmark, *(["preferences"] if STUDY.bases else [])]),
        ),
    params:
        version=stages.CONTAMINATION.version,
    script:
        "../scripts/find_contamination.py"
