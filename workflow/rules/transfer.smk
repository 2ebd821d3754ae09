"""Train-language x eval-language accuracy, and the study's answer in one sentence.

In:  all scores.
Out: tables/transfer.csv, tables/length_baseline.csv, tables/answer.txt.
"""


rule evaluate_transfer:
    input:
        scores=expand(
            f"{STUDY}/scores/{{model[0]}}/{{model[1]}}/seed{{model[2]}}/{{language}}.parquet",
            model=models(),
            language=LANGUAGES,
        ),
    output:
        transfer=f"{STUDY}/tables/transfer.csv",
        baseline=f"{STUDY}/tables/length_baseline.csv",
        answer=f"{STUDY}/tables/answer.txt",
    log:
        f"{STUDY}/logs/evaluate_transfer.log",
    benchmark:
        f"{STUDY}/benchmarks/evaluate_transfer.tsv"
    conda:
        "../../envs/analyse.yaml"
    params:
        models=models(),
        languages=LANGUAGES,
        source=SOURCE,
        version=versions.TRANSFER,
    script:
        "../scripts/evaluate_transfer.py"
