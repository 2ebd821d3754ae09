"""Rewards and last-token hidden states of every model on the benchmark in every language, in one pass.

In:  a reward model or a base model, the selected benchmark rows of every language.
Out: scores/<base>/<train_language>/seed<k>/<language>.parquet and hidden_states/<the same>/<language>.npz;
     hidden_states/<base>/base/<language>.npz for the base model.

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
