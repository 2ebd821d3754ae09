"""What a reward model buys a policy: best-of-n sampling from the base model.

In:  base_models/<base>/, the selected instructions; the rewards of the sampled answers by all reward models.
Out: alignment/answers/<base>/<language>.parquet, tables/alignment.csv: what each reward model's picks are worth to others,
     in which language they are and whether they came to an end.
"""


rule sample_answers:
    input:
        base=AT.base_model,
        rows=ancient(lambda wildcards: AT.rows("instructions", wildcards.language)),
        ids=ancient(ids_of("instructions")),
    output:
        answers=AT.answers,
    log:
        "<logs>/sample_answers/{base}.{language}.log",
    priority: THIRD
    conda:
        "../../envs/train.yaml"
    threads: HEAVY
    resources:
        **DEVICE,
        **asks(lambda wildcards: NEEDS.sampling(wildcards.base), gpu=int(ON_GPU)),
    params:
        options=STUDY.config.alignment.model_dump(exclude={"best_of", "reward_models"}),
        seed=STUDY.config.seeds[0],
        rows=lambda wildcards: content_of("instructions", [wildcards.language]),
        version=stages.SAMPLING.version,
    script:
        "../scripts/sample_answers.py"


rule evaluate_best_of_n:
    input:
        answers=expand(AT.answers, base=STUDY.bases, language=STUDY.languages),
        rewards=STUDY.answer_rewards,
    output:
        table=AT.table.fill(table="alignment"),
    log:
        "<logs>/evaluate_best_of_n.log",
    conda:
        "../../envs/analyse.yaml"
    resources:
        **LIGHT,
    params:
        best_of=STUDY.config.alignment.best_of,
        # Of those that pick alone: a new part of a training set, or a head on the base's states, changes nothing here.
        trained_in={m.train_language: STUDY.trained_in(m.train_language) for m in STUDY.full_reward_models},
        baselines=[name for name in STUDY.config.alignment.reward_models if name in STUDY.baselines],
        version=stages.BEST_OF_N.version,
    script:
        "../scripts/evaluate_best_of_n.py"
