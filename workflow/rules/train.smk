"""One Bradley-Terry reward model per base model, training set and seed: a language, a part of it, or a mixture.

In:  base_models/<base>/, the selected preference rows of one language, or of several.
Out: models/<base>/<train_language>/seed<k>/, reloaded from disk and rescored, manifest last;
     tables/training.csv, the training logs of all of them.
"""


rule train_reward_model:
    input:
        base=lambda wildcards: AT.base_model.fill(base=RewardModelId.parse(wildcards.reward_model).base_model),
        rows=ancient(
            lambda wildcards: [AT.rows("preferences", language) for language in STUDY.shares(wildcards.reward_model)]
        ),
        ids=ancient(ids_of("preferences")),
    output:
        folder=directory(AT.model),
    log:
        "<logs>/train_reward_model/{reward_model}.log",
    wildcard_constraints:
        reward_model=any_of(model.id for model in STUDY.reward_models),
    priority: FIRST
    conda:
        "../../envs/train.yaml"
    threads: HEAVY
    resources:
        **DEVICE,
        **asks(
            lambda wildcards: NEEDS.training(wildcards.reward_model),
            gpu=STUDY.config.training.processes if ON_GPU else 0,
        ),
        tasks=0,  # SLURM's plugin would run the script once for each GPU
        checkpoint_minutes=RESOURCES.checkpoint_minutes,
    params:
        recipe=STUDY.recipe,
        shares=lambda wildcards: STUDY.shares(wildcards.reward_model),
        pairs=lambda wildcards: STUDY.pairs(wildcards.reward_model),
        rows=lambda wildcards: content_of("preferences", STUDY.shares(wildcards.reward_model)),
        version=stages.TRAINING.version,
    script:
        "../scripts/train_reward_model.py"


rule gather_training_logs:
    input:
        models=[AT.model.fill(reward_model=model.id) for model in STUDY.reward_models],
    output:
        table=AT.table.fill(table="training"),
    log:
        "<logs>/gather_training_logs.log",
    conda:
        "../../envs/analyse.yaml"
    resources:
        **LIGHT,
    params:
        version=stages.TRAINING_LOGS.version,
    script:
        "../scripts/gather_training_logs.py"
