"""One Bradley-Terry reward model per base model, training language or mixture of languages, and seed.

In:  base_models/<base>/, the selected preference rows of one language, or of several.
Out: models/<base>/<train_language>/seed<k>/, reloaded from disk and rescored, manifest last.
"""


rule train_reward_model:
    input:
        base=f"{STUDY}/base_models/{{base}}",
        rows=ancient(
            lambda wildcards: [
                rows_of("preferences", language) for language in TRAINING_SETS[wildcards.train_language]
            ]
        ),
        ids=ancient(selected_ids("preferences")),
    output:
        folder=directory(f"{STUDY}/models/{{base}}/{{train_language}}/seed{{seed}}"),
    log:
        f"{STUDY}/logs/train_reward_model/{{base}}.{{train_language}}.seed{{seed}}.log",
    benchmark:
        f"{STUDY}/benchmarks/train_reward_model/{{base}}.{{train_language}}.seed{{seed}}.tsv"
    priority: LONGEST_FIRST["train"]
    conda:
        "../../envs/train.yaml"
    threads: HEAVY
    resources:
        gpu=1,
        tokens_per_batch=resource("tokens_per_batch"),
        checkpoint_minutes=resource("checkpoint_minutes"),
        device=resource("device"),
    params:
        recipe=config["training"],
        shares=lambda wildcards: TRAINING_SETS[wildcards.train_language],
        rows=lambda wildcards: selected_content("preferences", *TRAINING_SETS[wildcards.train_language]),
        version=versions.TRAINING,
    script:
        "../scripts/train_reward_model.py"
