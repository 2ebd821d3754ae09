"""Rewards of every reward model on every benchmark in every language; on the main one also hidden states, in one pass.

In:  a reward model or a base model, the selected benchmark rows of every language.
Out: scores/<reward_model>/<language>.parquet, scores/<reward_model>/<benchmark>/<language>.parquet for further ones;
     hidden_states/<base>/<train_language>/seed<k>/<language>.npz, hidden_states/<base>/base/<language>.npz;
     reward_models/<slug>/, whatever has to be downloaded of an off-the-shelf reward model.

One process and one model load per model. Finished languages also rest in .work/scores, keyed by their content, so that
a new language costs one language.
"""


rule score_benchmark:
    input:
        model=f"{STUDY}/models/{{base}}/{{train_language}}/seed{{seed}}",
        rows=ancient(all_rows_of("benchmark")),
        ids=ancient(selected_ids("benchmark")),
    output:
        scores=per_language("scores/{base}/{train_language}/seed{seed}", ".parquet"),
        states=per_language("hidden_states/{base}/{train_language}/seed{seed}", ".npz"),
    log:
        f"{STUDY}/logs/score_benchmark/{{base}}.{{train_language}}.seed{{seed}}.log",
    benchmark:
        f"{STUDY}/benchmarks/score_benchmark/{{base}}.{{train_language}}.seed{{seed}}.tsv"
    priority: LONGEST_FIRST["score"]
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
        rows=lambda wildcards: selected_content("benchmark", *LANGUAGES),
        version=versions.SCORING,
    script:
        "../scripts/score_benchmark.py"


rule embed_benchmark:
    input:
        model=f"{STUDY}/base_models/{{base}}",
        rows=ancient(all_rows_of("benchmark")),
        ids=ancient(selected_ids("benchmark")),
    output:
        states=per_language("hidden_states/{base}/base", ".npz"),
    log:
        f"{STUDY}/logs/embed_benchmark/{{base}}.log",
    benchmark:
        f"{STUDY}/benchmarks/embed_benchmark/{{base}}.tsv"
    priority: LONGEST_FIRST["embed"]
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
        rows=lambda wildcards: selected_content("benchmark", *LANGUAGES),
        version=versions.SCORING,
    script:
        "../scripts/score_benchmark.py"


rule score_further_benchmark:
    input:
        model=f"{STUDY}/models/{{base}}/{{train_language}}/seed{{seed}}",
        rows=ancient(lambda wildcards: all_rows_of(wildcards.benchmark)),
        ids=ancient(selected_ids_at),
    output:
        scores=per_language("scores/{base}/{train_language}/seed{seed}/{benchmark}", ".parquet"),
    log:
        f"{STUDY}/logs/score_further_benchmark/{{benchmark}}.{{base}}.{{train_language}}.seed{{seed}}.log",
    benchmark:
        f"{STUDY}/benchmarks/score_further_benchmark/{{benchmark}}.{{base}}.{{train_language}}.seed{{seed}}.tsv"
    priority: LONGEST_FIRST["score"]
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
        rows=lambda wildcards: selected_content(wildcards.benchmark, *LANGUAGES),
        version=versions.SCORING,
    script:
        "../scripts/score_benchmark.py"


rule score_translate_test:
    """The classical baseline: the source-language reward model on the benchmark translated into its own language."""
    input:
        model=f"{STUDY}/models/{{base}}/{SOURCE}/seed{{seed}}",
        rows=ancient(
            lambda wildcards: [
                rows_in_source(language) if language in TRANSLATED_BACK else rows_of("benchmark", SOURCE)
                for language in JUDGED_IN_SOURCE
            ]
        ),
        ids=ancient(selected_ids("benchmark")),
    output:
        scores=[
            f"{STUDY}/scores/{{base}}/{TRANSLATE_TEST}/seed{{seed}}/{language}.parquet"
            for language in JUDGED_IN_SOURCE
        ],
    log:
        f"{STUDY}/logs/score_translate_test/{{base}}.seed{{seed}}.log",
    benchmark:
        f"{STUDY}/benchmarks/score_translate_test/{{base}}.seed{{seed}}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: HEAVY
    resources:
        gpu=1,
        tokens_per_batch=resource("tokens_per_batch"),
        device=resource("device"),
    params:
        languages=JUDGED_IN_SOURCE,
        store=f"{STUDY}/.work/scores",
        rows=lambda wildcards: selected_content(
            "benchmark", SOURCE, *[f"{language} in {SOURCE}" for language in TRANSLATED_BACK]
        ),
        version=versions.SCORING,
    script:
        "../scripts/score_benchmark.py"


# Downloads happen where the network is; the jobs that need the weights are offline.
localrules:
    fetch_model,


rule fetch_model:
    """A model of the hub, as it is there at its revision."""
    output:
        folder=directory(f"{STUDY}/reward_models/{{reward_model}}/{{key}}"),
    log:
        f"{STUDY}/logs/fetch_model/{{reward_model}}.{{key}}.log",
    benchmark:
        f"{STUDY}/benchmarks/fetch_model/{{reward_model}}.{{key}}.tsv"
    wildcard_constraints:
        key=any_of(MODEL_KEYS),
    conda:
        "../../envs/train.yaml"
    params:
        model=lambda wildcards: config["reward_models"][wildcards.reward_model][wildcards.key],
        revision=lambda wildcards: config["reward_models"][wildcards.reward_model][MODEL_KEYS[wildcards.key]],
        version=versions.BASE_MODEL,
    script:
        "../scripts/fetch_model.py"


rule score_reward_model:
    input:
        unpack(models_of_judge),
        chat_template=lambda wildcards: config["reward_models"][wildcards.reward_model].get("chat_template", []),
        rows=ancient(lambda wildcards: all_rows_of(role_at(wildcards))),
        ids=ancient(selected_ids_at),
    output:
        scores=per_language("scores/{reward_model}/{at}", ".parquet", ""),
        settings=f"{STUDY}/scores/{{reward_model}}/{{at}}settings.json",
    log:
        f"{STUDY}/logs/score_reward_model/{{at}}{{reward_model}}.log",
    benchmark:
        f"{STUDY}/benchmarks/score_reward_model/{{at}}{{reward_model}}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: lambda wildcards: HEAVY if judges_with_a_model(wildcards) else 1
    resources:
        gpu=lambda wildcards: int(judges_with_a_model(wildcards)),
        tokens_per_batch=resource("tokens_per_batch"),
        requests_at_once=resource("requests_at_once"),
        device=resource("device"),
    params:
        spec=lambda wildcards: config["reward_models"][wildcards.reward_model],
        languages=LANGUAGES,
        store=f"{STUDY}/.work/scores",
        rows=lambda wildcards: selected_content(role_at(wildcards), *LANGUAGES),
        version=versions.SCORING,
    script:
        "../scripts/score_reward_model.py"
