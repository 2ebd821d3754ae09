"""What a reward model buys a policy: the best of n of its answers, policies aligned with them, and what is better in the end.

In:  policies, the selected instructions, held-out ones, and instructions whose answers code can check; all reward models.
Out: alignment/answers/<writer>/<part>/<language>.parquet, of policies and of what is made of them;
     tables/best_of_n.csv and agreement.csv: what each reward model's picks are worth to others, and how far reward models agree;
     alignment/policies/<policy>/<method>/<selector>/: policies aligned with a reward model, reloaded from disk, manifest last;
     alignment/comparisons/, alignment/verdicts/: answers to held-out instructions against the policy's own, and who won;
     alignment/drift/: how far an aligned policy went; tables/constraints.csv, tables/alignment.csv.
"""

ALIGNED = any_of(ALIGNING.all_aligned)
POLICY = any_of(ALIGNING.policies)


rule prepare_policy:
    """A model of its own, beside the bases; those that are bases are there already."""
    input:
        chat_template=lambda wildcards: ALIGNING.entries[wildcards.base].chat_template or [],
        base=lambda wildcards: ALIGNING.inputs_of(wildcards.base),
    output:
        folder=directory(AT.base_model),
    log:
        "<logs>/prepare_policy/{base}.log",
    wildcard_constraints:
        base=any_of(ALIGNING.own_models),
    conda:
        "../../envs/train.yaml"
    resources:
        **asks(
            lambda wildcards: NEEDS.preparing_policy(wildcards.base),
            network=lambda wildcards: int(ALIGNING.downloads(wildcards.base)),
        ),
    params:
        options=lambda wildcards: ALIGNING.options_of(wildcards.base, Path.cwd()),
        version=stages.BASE_MODEL.version,
    script:
        "../scripts/prepare_policy.py"


rule read_constraints:
    """Instructions whose answers code can check, and which of them are left out, and why."""
    input:
        rows=ALIGNING.constraint_files,
    output:
        rows=expand(AT.constraints, language=ALIGNING.plain_languages),
        left_out=expand(AT.constraints_left_out, language=ALIGNING.plain_languages),
    log:
        "<logs>/read_constraints.log",
    conda:
        "../../envs/translate.yaml"
    resources:
        **LIGHT,
    params:
        languages=ALIGNING.plain_languages,
        version=stages.CONSTRAINTS.version,
    script:
        "../scripts/read_constraints.py"


rule sample_answers:
    input:
        base=lambda wildcards: ALIGNING.folder(wildcards.writer),
        rows=lambda wildcards: [ancient(path) for path in ALIGNING.rows(wildcards.part)],
        ids=ancient(ids_of("{part}")),
    output:
        answers=expand(AT.answers, language=STUDY.languages, allow_missing=True),
    log:
        "<logs>/sample_answers/{part}/{writer}.log",
    wildcard_constraints:
        writer=any_of(ALIGNING.writers),
        part=any_of([INSTRUCTIONS, HELD_OUT]),
    priority: THIRD
    conda:
        "../../envs/train.yaml"
    threads: HEAVY
    resources:
        **DEVICE,
        **asks(lambda wildcards: NEEDS.sampling(wildcards.writer, wildcards.part), gpu=int(ON_GPU)),
    params:
        options=lambda wildcards: ALIGNING.sampling_options(wildcards.writer, wildcards.part),
        seed=STUDY.config.seeds[0],
        rows=lambda wildcards: content_of(wildcards.part, STUDY.languages),
        version=stages.SAMPLING.version,
    script:
        "../scripts/sample_answers.py"


use rule sample_answers as answer_constraints with:
    input:
        base=lambda wildcards: ALIGNING.folder(wildcards.writer),
        rows=ALIGNING.rows(CONSTRAINTS),
    output:
        answers=expand(AT.answers, language=ALIGNING.plain_languages, allow_missing=True),
    wildcard_constraints:
        writer=any_of(ALIGNING.writers),
        part=CONSTRAINTS,
    params:
        options=lambda wildcards: ALIGNING.sampling_options(wildcards.writer, wildcards.part),
        seed=STUDY.config.seeds[0],
        rows="",  # their age counts
        version=stages.SAMPLING.version,


rule evaluate_best_of_n:
    input:
        answers=[file for policy in ALIGNING.policies for file in ALIGNING.answers(policy, INSTRUCTIONS)],
        rewards=[file for policy in ALIGNING.policies for file in ALIGNING.rewards(policy)],
    output:
        table=AT.table.fill(table="best_of_n"),
    log:
        "<logs>/evaluate_best_of_n.log",
    conda:
        "../../envs/analyse.yaml"
    resources:
        **LIGHT,
    params:
        best_of=STUDY.config.alignment.best_of,
        # Of those that pick alone: a new part of a training set, or a head on the base's states, changes nothing here.
        bases=STUDY.bases,
        trained_in={m.train_language: STUDY.trained_in(m.train_language) for m in STUDY.full_reward_models},
        baselines=ALIGNING.baselines,
        version=stages.BEST_OF_N.version,
    script:
        "../scripts/evaluate_best_of_n.py"


rule evaluate_agreement:
    input:
        answers=rules.evaluate_best_of_n.input.answers,
        rewards=rules.evaluate_best_of_n.input.rewards,
    output:
        table=AT.table.fill(table="agreement"),
    log:
        "<logs>/evaluate_agreement.log",
    conda:
        "../../envs/analyse.yaml"
    resources:
        **LIGHT,
    params:
        version=stages.AGREEMENT.version,
    script:
        "../scripts/evaluate_agreement.py"


rule align_policy:
    input:
        base=lambda wildcards: ALIGNING.folder(ALIGNING.policy_of(wildcards.aligned)),
        answers=lambda wildcards: ALIGNING.answers(ALIGNING.policy_of(wildcards.aligned), INSTRUCTIONS),
        rewards=lambda wildcards: ALIGNING.selections(
            ALIGNING.contender_of(wildcards.aligned).selector, ALIGNING.policy_of(wildcards.aligned), INSTRUCTIONS
        ),
    output:
        folder=directory(AT.aligned),
    log:
        "<logs>/align_policy/{aligned}.log",
    wildcard_constraints:
        aligned=ALIGNED,
    priority: THIRD
    conda:
        "../../envs/train.yaml"
    threads: HEAVY
    resources:
        **DEVICE,
        **asks(lambda wildcards: NEEDS.aligning_policy(wildcards.aligned), gpu=int(ON_GPU)),
        checkpoint_minutes=RESOURCES.checkpoint_minutes,
    params:
        recipe=ALIGNING.recipe,
        version=stages.ALIGNING.version,
    script:
        "../scripts/align_policy.py"


rule measure_drift:
    """How much likelier an aligned policy's own answers are to it than to the policy that it is made of."""
    input:
        aligned=AT.aligned,
        reference=lambda wildcards: ALIGNING.folder(ALIGNING.policy_of(wildcards.aligned)),
        rows=lambda wildcards: ALIGNING.answers(wildcards.aligned, HELD_OUT),
    output:
        drift=expand(AT.drift, language=STUDY.languages, allow_missing=True),
    log:
        "<logs>/measure_drift/{aligned}.log",
    wildcard_constraints:
        aligned=ALIGNED,
    priority: THIRD
    conda:
        "../../envs/train.yaml"
    threads: HEAVY
    resources:
        **DEVICE,
        **asks(lambda wildcards: NEEDS.drifting(wildcards.aligned), gpu=int(ON_GPU)),
    params:
        version=stages.SCORING.version,
    script:
        "../scripts/measure_drift.py"


rule compare_answers:
    """What is compared with a policy's own answers: the picks of selectors, and policies aligned with them."""
    input:
        answers=lambda wildcards: ALIGNING.answers(wildcards.policy, HELD_OUT),
        aligned=lambda wildcards: [
            file for aligned in ALIGNING.aligned(wildcards.policy) for file in ALIGNING.answers(aligned, HELD_OUT)
        ],
        rewards=lambda wildcards: ALIGNING.held_out_selections(wildcards.policy),
    output:
        rows=expand(AT.comparisons, language=STUDY.languages, allow_missing=True),
    log:
        "<logs>/compare_answers/{policy}.log",
    wildcard_constraints:
        policy=POLICY,
    conda:
        "../../envs/analyse.yaml"
    resources:
        **LIGHT,
    params:
        contenders=lambda wildcards: [contender.id for contender in ALIGNING.contenders(wildcards.policy)],
        version=stages.COMPARISONS.version,
    script:
        "../scripts/compare_answers.py"


rule evaluate_constraints:
    input:
        rows=ALIGNING.rows(CONSTRAINTS),
        left_out=expand(AT.constraints_left_out, language=ALIGNING.plain_languages),
        answers=[file for writer in ALIGNING.writers for file in ALIGNING.answers(writer, CONSTRAINTS)],
    output:
        table=AT.table.fill(table="constraints"),
    log:
        "<logs>/evaluate_constraints.log",
    conda:
        "../../envs/analyse.yaml"
    resources:
        **LIGHT,
    params:
        version=stages.CONSTRAINTS.version,
    script:
        "../scripts/evaluate_constraints.py"


rule evaluate_alignment:
    input:
        best_of_n=rules.evaluate_best_of_n.output.table,
        constraints=rules.evaluate_constraints.output.table if ALIGNING.checks_constraints else [],
        answers=[
            file for writer in ALIGNING.writers if ALIGNING.evaluates for file in ALIGNING.answers(writer, HELD_OUT)
        ],
        comparisons=[
            AT.comparisons.fill(policy=policy, language=language)
            for policy in ALIGNING.policies
            if ALIGNING.evaluates
            for language in STUDY.languages
        ],
        verdicts=[file for policy in ALIGNING.policies if ALIGNING.evaluates for file in ALIGNING.verdicts(policy)],
        drift=expand(AT.drift, aligned=ALIGNING.all_aligned, language=STUDY.languages),
    output:
        table=AT.table.fill(table="alignment"),
    log:
        "<logs>/evaluate_alignment.log",
    conda:
        "../../envs/analyse.yaml"
    resources:
        **LIGHT,
    params:
        bases=STUDY.bases,
        trained_in={m.train_language: STUDY.trained_in(m.train_language) for m in STUDY.full_reward_models},
        baselines=ALIGNING.baselines,
        built_on=ALIGNING.built_on,
        version=stages.ALIGNMENT.version,
    script:
        "../scripts/evaluate_alignment.py"
