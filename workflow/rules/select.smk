"""One id list per role: the rows that are valid in every language.

In:  the rows of every language; tokenizers where length decides.
Out: corpus/<role>.ids.jsonl, and corpus/<role>.dropped.csv with every dropped row, its language and the reason.
"""


# A checkpoint, so that a changed list reruns what depends on it and an unchanged one reruns nothing.
checkpoint select_rows:
    input:
        rows=lambda wildcards: all_rows_of(wildcards.role),
        # Only training cuts at max_length; a benchmark is scored whole.
        bases=lambda wildcards: (
            [f"{STUDY}/base_models/{base}" for base in BASES] if wildcards.role == "preferences" else []
        ),
    output:
        ids=f"{STUDY}/corpus/{{role}}.ids.jsonl",
        dropped=f"{STUDY}/corpus/{{role}}.dropped.csv",
    log:
        f"{STUDY}/logs/select_rows/{{role}}.log",
    benchmark:
        f"{STUDY}/benchmarks/select_rows/{{role}}.tsv"
    conda:
        "../../envs/train.yaml"
    params:
        languages=LANGUAGES,
        max_length=lambda wildcards: config["training"]["max_length"] if wildcards.role == "preferences" else None,
        version=versions.SELECTION,
    script:
        "../scripts/select_rows.py"
