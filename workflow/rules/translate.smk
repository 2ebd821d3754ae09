"""Rows of the source language into each target language.

In:  corpus/<role>.parquet and the translation memory.
Out: translations/<language>/<role>.parquet. A segment that the memory lacks stops the run and is listed.
"""


rule translate_rows:
    input:
        rows=f"{STUDY}/corpus/{{role}}.parquet",
        memory=config["translation"].get("memory", []),
    output:
        rows=f"{STUDY}/translations/{{language}}/{{role}}.parquet",
    log:
        f"{STUDY}/logs/translate_rows/{{language}}.{{role}}.log",
    benchmark:
        f"{STUDY}/benchmarks/translate_rows/{{language}}.{{role}}.tsv"
    wildcard_constraints:
        role=any_of(TRANSLATED),
    conda:
        "../../envs/translate.yaml"
    params:
        engine=config["translation"]["engine"],
        source=SOURCE,
        version=versions.TRANSLATION,
    script:
        "../scripts/translate_rows.py"
