"""What a reward model buys a policy: best-of-n sampling from the base model.

In:  base_models/<base>/, the selected instructions; the rewards of the sampled answers by all reward models.
Out: alignment/answers/<base>/<language>.parquet, tables/alignment.csv. Answers are judged by the reward models that did
     not pick them.
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
        gpu=1,
    params:
        options={k: v for k, v in config["alignment"].items() if k != "best_of"},
        seed=STUDY.config.seeds[0],
        rows=lambda wildcards: content_of("instructions", [wildcards.language]),
        version=stages.SAMPLING.version,
    script:
        "../scripts/sample_answers.py"


rule evaluate_best_of_n:
    input:
        rewards=expand(
            AT.answer_rewards,
            reward_model=[model.id for model in STUDY.full_reward_models],
            language=STUDY.languages,
        ),
    output:
        table=AT.table.fill(table="alignment"),
    log:
        "<logs>/evaluate_best_of_n.log",
    conda:
        "../../envs/analyse.yaml"
    params:
        best_of=STUDY.config.alignment.best_of,
        version=stages.BEST_OF_N.version,
    script:
        "../scripts/evaluate_best_of_n.py"
