"""Rows in, validated, one schema.

In:  the files or hub data sets that the config names.
Out: corpus/<role>.parquet, and corpus/<role>.rejected.csv with every rejected row and the reason.
"""


# On a cluster the head node reads: it is the one with a network, and every later job finds the rows on disk.
localrules:
    read_rows,
    read_given_rows,


rule read_rows:
    input:
        lambda wildcards: source_files(wildcards.role, SOURCE),
    output:
        rows=f"{STUDY}/corpus/{{role}}.parquet",
    log:
        f"{STUDY}/logs/read_rows/{{role}}.log",
    benchmark:
        f"{STUDY}/benchmarks/read_rows/{{role}}.tsv"
    conda:
        "../../envs/translate.yaml"
    resources:
        # Decides whether rows are refused, and nothing about those that are not.
        sections=lambda wildcards: ROLES[wildcards.role].get("sections", ""),
    params:
        source=lambda wildcards: entry_of(wildcards.role, SOURCE),
        language=SOURCE,
        # Kept when the job fails, unlike outputs: it says why.
        ledger=lambda wildcards: f"{STUDY}/corpus/{wildcards.role}.rejected.csv",
        version=versions.CORPUS,
    script:
        "../scripts/read_rows.py"


rule read_given_rows:
    input:
        lambda wildcards: source_files(wildcards.role, wildcards.language),
    output:
        rows=f"{STUDY}/translations/{{language}}/{{role}}.parquet",
    log:
        f"{STUDY}/logs/read_given_rows/{{language}}.{{role}}.log",
    benchmark:
        f"{STUDY}/benchmarks/read_given_rows/{{language}}.{{role}}.tsv"
    wildcard_constraints:
        role=any_of(GIVEN),
    conda:
        "../../envs/translate.yaml"
    resources:
        # Decides whether rows are refused, and nothing about those that are not.
        sections=lambda wildcards: ROLES[wildcards.role].get("sections", ""),
    params:
        source=lambda wildcards: entry_of(wildcards.role, wildcards.language),
        language=lambda wildcards: split_variant(wildcards.language)[0],
        ledger=lambda wildcards: f"{STUDY}/translations/{wildcards.language}/{wildcards.role}.rejected.csv",
        version=versions.CORPUS,
    script:
        "../scripts/read_rows.py"
