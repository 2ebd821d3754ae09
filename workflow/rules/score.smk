"""Rewards of every reward model, ours and others', on every benchmark in every language; of ours also hidden states.

In:  a reward model or a base model; the selected rows of a benchmark in every language, or sampled answers.
Out: scores/<reward_model>/<benchmark>/<language>.parquet with settings.json, what decides them, beside;
     hidden_states/<reward_model>/<benchmark>/<language>.npz of the leading benchmark, for base models too, and of base
     models for whatever a baseline reads, preferences among it;
     alignment/rewards/<reward_model>/<policy>/<part>/<language>.parquet and alignment/verdicts/<judge>/<policy>/<language>.parquet.
"""

OURS = any_of(model.id for model in STUDY.full_reward_models)


ruleorder: score_with_states > score_translate_test > score_states > score


rule score:
    input:
        unpack(lambda wildcards: STUDY.model_folders(wildcards.reward_model, Path.cwd())),
        rows=ancient(lambda wildcards: STUDY.rows_scored(wildcards.reward_model, wildcards.benchmark)),
        ids=ancient(ids_of("{benchmark}")),
    output:
        scores=expand(AT.scores, language=STUDY.languages, allow_missing=True),
        settings=AT.settings,
    log:
        "<logs>/score/{benchmark}/{reward_model}.log",
    wildcard_constraints:
        # Snakemake plans a job of every rule that fits before it drops all but one: what score_with_states does fits here no more.
        reward_model=f"(?!(?:{OURS})/{any_of([STUDY.leading])}/)(?:{any_of(STUDY.all_scored)})",
        benchmark=any_of(STUDY.parallel),
    priority: SECOND
    conda:
        "../../envs/train.yaml"
    threads: lambda wildcards: HEAVY if STUDY.loads_weights(wildcards.reward_model) else 1
    resources:
        **DEVICE,
        **asks(
            lambda wildcards: NEEDS.scoring(wildcards.reward_model, wildcards.benchmark),
            gpu=lambda wildcards: int(ON_GPU and STUDY.loads_weights(wildcards.reward_model)),
            network=lambda wildcards: int(STUDY.asks_a_server(wildcards.reward_model)),
        ),
        requests_at_once=RESOURCES.requests_at_once,
    params:
        options=lambda wildcards: (
            STUDY.scoring_options(wildcards.reward_model) | STUDY.clock_of(wildcards.reward_model, Path.cwd())
        ),
        rows=lambda wildcards: content_of(
            wildcards.benchmark, STUDY.content_scored(wildcards.reward_model, wildcards.benchmark)
        ),
        cache=AT.cache,
        version=stages.SCORING.version,
    script:
        "../scripts/score.py"


use rule score as score_with_states with:
    # Our own models on the leading benchmark: rewards and the hidden states that they are read from, in one pass.
    output:
        scores=expand(AT.scores, language=STUDY.languages, allow_missing=True),
        settings=AT.settings,
        states=expand(AT.states, language=STUDY.languages, allow_missing=True),
    wildcard_constraints:
        reward_model=OURS,
        benchmark=any_of([STUDY.leading]),


use rule score as embed_base with:
    # A base model has no head: hidden states alone.
    output:
        states=expand(AT.states, language=STUDY.languages, allow_missing=True),
    wildcard_constraints:
        reward_model=any_of(f"{base}/base" for base in STUDY.bases),
        benchmark=any_of([*STUDY.benchmarks, "preferences"]),
    priority: THIRD


rule score_states:
    """A linear head on a base model's hidden states: no model is loaded."""
    input:
        unpack(lambda wildcards: STUDY.model_folders(wildcards.reward_model, Path.cwd())),
        states=lambda wildcards: STUDY.base_states(wildcards.reward_model, wildcards.benchmark, STUDY.languages),
        pairs=lambda wildcards: STUDY.fitted_states(wildcards.reward_model),
        rows=rules.score.input.rows,
        ids=rules.score.input.ids,
    output:
        scores=expand(AT.scores, language=STUDY.languages, allow_missing=True),
        settings=AT.settings,
    log:
        "<logs>/score_states/{benchmark}/{reward_model}.log",
    wildcard_constraints:
        reward_model=any_of(scored for scored in STUDY.all_scored if STUDY.reads_states(scored)),
        benchmark=any_of(STUDY.parallel),
    conda:
        "../../envs/train.yaml"
    resources:
        **asks(lambda wildcards: NEEDS.heads(wildcards.benchmark)),
    params:
        options=lambda wildcards: STUDY.scoring_options(wildcards.reward_model),
        rows=lambda wildcards: content_of(wildcards.benchmark, STUDY.languages),
        held_out=STUDY.config.training.held_out,
        version=stages.BASELINES.version,
    script:
        "../scripts/score_states.py"


use rule score as score_translate_test with:
    # The classical baseline: the source-language reward model on the benchmark translated into its own language.
    output:
        scores=expand(AT.scores, language=[STUDY.source, *STUDY.translated_back], allow_missing=True),
        settings=AT.settings,
    wildcard_constraints:
        reward_model=any_of(s.id for s in STUDY.scorers(STUDY.leading) if s.train_language == "translate-test"),


use rule score as score_answers with:
    # What the policy answered, n answers to an item.
    input:
        unpack(lambda wildcards: STUDY.model_folders(wildcards.reward_model, Path.cwd())),
        rows=lambda wildcards: ALIGNING.answers(wildcards.policy, wildcards.part),
    output:
        scores=expand(AT.answer_rewards, language=STUDY.languages, allow_missing=True),
    log:
        "<logs>/score_answers/{policy}/{part}/{reward_model}.log",
    wildcard_constraints:
        reward_model=any_of(STUDY.all_scored),
        policy=any_of(ALIGNING.policies),
        part=any_of([INSTRUCTIONS, HELD_OUT]),
    priority: THIRD
    resources:
        **DEVICE,
        **asks(
            lambda wildcards: NEEDS.scoring_answers(wildcards.reward_model, wildcards.policy, wildcards.part),
            gpu=lambda wildcards: int(ON_GPU and STUDY.loads_weights(wildcards.reward_model)),
            network=lambda wildcards: int(STUDY.asks_a_server(wildcards.reward_model)),
        ),
        requests_at_once=RESOURCES.requests_at_once,
    params:
        rows="",  # their age counts, not what selection says of them


use rule score as judge_comparisons with:
    # An answer against the policy's own, as if they were a pair; judges are asked nothing twice.
    input:
        unpack(lambda wildcards: STUDY.model_folders(wildcards.reward_model, Path.cwd())),
        rows=expand(AT.comparisons, language=STUDY.languages, allow_missing=True),
    output:
        scores=expand(AT.verdicts, language=STUDY.languages, allow_missing=True),
        settings=AT.verdict_settings,
    log:
        "<logs>/judge_comparisons/{policy}/{reward_model}.log",
    wildcard_constraints:
        reward_model=any_of(STUDY.all_scored),
        policy=any_of(ALIGNING.policies),
    priority: THIRD
    resources:
        **DEVICE,
        **asks(
            lambda wildcards: NEEDS.judging(wildcards.reward_model, wildcards.policy),
            gpu=lambda wildcards: int(ON_GPU and STUDY.loads_weights(wildcards.reward_model)),
            network=lambda wildcards: int(STUDY.asks_a_server(wildcards.reward_model)),
        ),
        requests_at_once=RESOURCES.requests_at_once,
    params:
        rows="",


use rule score as score_native with:
    # What was written in one language is scored in that one.
    output:
        scores=[AT.scores],
        settings=AT.native_settings,
    log:
        "<logs>/score/{benchmark}/{reward_model}.{language}.log",
    wildcard_constraints:
        benchmark=any_of(STUDY.native),
