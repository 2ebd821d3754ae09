"""One id list per role: the rows that are valid in every language.

In:  the rows of every role in every language; tokenizers where length decides.
Out: corpus/<role>.ids.jsonl; corpus/<role>.dropped.csv with every dropped row, its language and the reason;
     corpus/selected.json, digests of what the selected rows hold, by role and language.
"""


# A checkpoint, so that a changed list reruns what depends on it and an unchanged one reruns nothing. One for all roles:
# nothing expensive starts before every text of the study is there in every language.
checkpoint select_rows:
    input:
        **{role: all_rows_of(role) for role in ROLES},
        back=[rows_in_source(language) for language in TRANSLATED_BACK],
        # Only training cuts at max_length; a benchmark is scored whole.
        bases=[f"{STUDY}/base_models/{base}" for base in BASES],
    output:
        ids=[f"{STUDY}/corpus/{role}.ids.jsonl" for role in ROLES],
        dropped=[f"{STUDY}/corpus/{role}.dropped.csv" for role in ROLES],
        digests=f"{STUDY}/corpus/selected.json",
    log:
        f"{STUDY}/logs/select_rows.log",
    benchmark:
        f"{STUDY}/benchmarks/select_rows.tsv"
    conda:
        "../../envs/train.yaml"
    params:
        roles=list(ROLES),
        languages=LANGUAGES,
        back=[f"{language} in {SOURCE}" for language in TRANSLATED_BACK],
        max_length={"preferences": config["training"]["max_length"]},
        # An item of RewardBench 2 is several rows, of use only together.
        several_rows=[role for role in BENCHMARKS if ROLES[role]["sections"] == "rewardbench2"],
        version=versions.SELECTION,
    script:
        "../scripts/select_rows.py"
