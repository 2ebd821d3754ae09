"""What a reward model buys a policy: best-of-n sampling from the base model.

In:  base_models/<base>/, the selected instructions, all reward models.
Out: alignment/answers/<base>/<language>.parquet, alignment/rewards/<base>/<train_language>/seed<k>/<language>.parquet,
     tables/alignment.csv. Answers are judged by the reward models that did not pick them.
"""


rule sample_answers:
    input:
        base=f"{STUDY}/base_models/{{base}}",
        rows=ancient(lambda wildcards: rows_of("instructions", wildcards.language)),
        ids=ancient(selected_ids("instructions")),
    output:
        answers=f"{STUDY}/alignment/answers/{{base}}/{{language}}.parquet",
    log:
        f"{STUDY}/logs/sample_answers/{{base}}.{{language}}.log",
    benchmark:
        f"{STUDY}/benchmarks/sample_answers/{{base}}.{{language}}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: HEAVY
    resources:
        gpu=1,
        tokens_per_batch=resource("tokens_per_batch"),
        device=resource("device"),
    params:
        options={k: v for k, v in config["alignment"].items() if k != "best_of"},
        seed=SEEDS[0],
        rows=lambda wildcards: selected_content("instructions", wildcards.language),
        version=versions.SAMPLING,
    script:
        "../scripts/sample_answers.py"


rule score_answers:
    input:
        model=f"{STUDY}/models/{{base}}/{{train_language}}/seed{{seed}}",
        answers=per_language("alignment/answers/{base}", ".parquet"),
    output:
        rewards=per_language("alignment/rewards/{base}/{train_language}/seed{seed}", ".parquet"),
    log:
        f"{STUDY}/logs/score_answers/{{base}}.{{train_language}}.seed{{seed}}.log",
    benchmark:
        f"{STUDY}/benchmarks/score_answers/{{base}}.{{train_language}}.seed{{seed}}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: HEAVY
    resources:
        gpu=1,
        tokens_per_batch=resource("tokens_per_batch"),
        device=resource("device"),
    params:
        languages=LANGUAGES,
        store=f"{STUDY}/.work/scores",
        version=versions.SCORING,
    script:
        "../scripts/score_answers.py"


rule evaluate_best_of_n:
    input:
        rewards=expand(
            f"{STUDY}/alignment/rewards/{{model[0]}}/{{model[1]}}/seed{{model[2]}}/{{language}}.parquet",
            model=models(),
            language=LANGUAGES,
        ),
    output:
        table=f"{STUDY}/tables/alignment.csv",
    log:
        f"{STUDY}/logs/evaluate_best_of_n.log",
    benchmark:
        f"{STUDY}/benchmarks/evaluate_best_of_n.tsv"
    conda:
        "../../envs/analyse.yaml"
    params:
        models=models(),
        languages=LANGUAGES,
        best_of=config["alignment"]["best_of"],
        version=versions.BEST_OF_N,
    script:
        "../scripts/evaluate_best_of_n.py"
