"""Rows of the source language into each target language, and back for what controls for translating, with a receipt.

In:  corpus/<part>.parquet; a translation memory, a model, or an account.
Out: translations/<language>/<part>.parquet, its ledger <part>.dropped.csv and what was counted, <part>.measures.csv;
     tables/translation.csv. Whatever an engine answered stays in the translation store, whatever happens to these.
"""

TRANSLATION = STUDY.config.translation
# Where results rest and what they may cost does not change what they are. A budget is checked before anything is asked.
LIMITED = TRANSLATION.budget_characters is not None
STORE = {"store": TRANSLATION.store, "budget": TRANSLATION.budget_characters if LIMITED else sys.maxsize}
BUDGET = [AT.budget] if LIMITED else []
WAYS = STUDY.ways()
SPECS = {language: STUDY.engine(language) for language in STUDY.translations}
OUTWARD = {language: spec for language, spec in SPECS.items() if language not in STUDY.round_trips}
BACK = STUDY.engine_back() if STUDY.translated_back else None
TRANSLATED_ROWS = {part: AT.source_rows.fill(part=part) for part in STUDY.translated}


# What is given in a language is not translated into it.
ruleorder: read_given_rows > translate_rows


rule translate_rows:
    # Into a target from the source language; a round trip back from the target.
    input:
        rows=lambda wildcards: AT.rows(wildcards.part, STUDY.translated_from(wildcards.language)),
        needs=lambda wildcards: STUDY.engine_files(SPECS[wildcards.language]),
        references=lambda wildcards: (wildcards.language in OUTWARD and TRANSLATION.references) or [],
        budget=BUDGET,
        # A row that a model cannot use is known before it is paid for. Age does not count: another base translates nothing again.
        templates=ancient(AT.templates) if TEMPLATES else [],
    output:
        rows=AT.translated_rows,
        dropped=AT.translated_dropped,
        measures=AT.measures,
    log:
        "<logs>/translate_rows/{language}.{part}.log",
    wildcard_constraints:
        language=any_of(STUDY.translations),
    conda:
        "../../envs/translate.yaml"
    threads: lambda wildcards: HEAVY if STUDY.runs_a_model(SPECS[wildcards.language]) else 1
    resources:
        **DEVICE | STORE,
        **asks(
            lambda wildcards: NEEDS.translating(SPECS[wildcards.language], wildcards.part),
            gpu=lambda wildcards: int(ON_GPU and STUDY.runs_a_model(SPECS[wildcards.language])),
            network=lambda wildcards: int(STUDY.needs_network(SPECS[wildcards.language])),
        ),
        requests_at_once=RESOURCES.requests_at_once,
    params:
        part=lambda wildcards: wildcards.part,
        spec=lambda wildcards: SPECS[wildcards.language],
        source=lambda wildcards: STUDY.translated_from(wildcards.language),
        target=lambda wildcards: wildcards.language,
        version=stages.TRANSLATION.version,
    script:
        "../scripts/translate_rows.py"


use rule translate_rows as translate_back with:
    # The leading benchmark in a target language, in the source language again: what translate-test judges.
    input:
        rows=lambda wildcards: AT.rows(STUDY.leading, wildcards.language),
        needs=STUDY.engine_files(BACK) if BACK else [],
        budget=BUDGET,
    output:
        rows=AT.back_rows.fill(part=STUDY.leading),
        dropped=AT.back_dropped.fill(part=STUDY.leading),
        measures=AT.back_measures.fill(part=STUDY.leading),
    log:
        "<logs>/translate_back/{language}.log",
    wildcard_constraints:
        language=any_of(STUDY.translated_back),
    threads: HEAVY if BACK and STUDY.runs_a_model(BACK) else 1
    resources:
        **DEVICE | STORE,
        **asks(
            lambda wildcards: NEEDS.translating(BACK, STUDY.leading),
            gpu=int(ON_GPU and STUDY.runs_a_model(BACK)) if BACK else 0,
            network=int(STUDY.needs_network(BACK)) if BACK else 0,
        ),
        requests_at_once=RESOURCES.requests_at_once,
    params:
        part=STUDY.leading,
        spec=BACK,
        source=lambda wildcards: STUDY.plain_language(wildcards.language),
        target=STUDY.source,
        version=stages.TRANSLATION.version,


rule check_budget:
    input:
        **{part: AT.source_rows.fill(part=part) for way in WAYS for part in way["rows"]},
        needs=[STUDY.engine_files(way["spec"]) for way in WAYS],
    output:
        plan=AT.budget,
    log:
        "<logs>/check_budget.log",
    conda:
        "../../envs/translate.yaml"
    resources:
        **STORE,
        **asks(lambda wildcards: NEEDS.going_through(STUDY.parts)),
    params:
        ways=WAYS,
        version=stages.TRANSLATION.version,
    script:
        "../scripts/check_budget.py"


rule summarise_translation:
    input:
        # Not the way back of translate-test, which makes no language of the study.
        measures=[
            AT.measures.fill(language=way["language"], part=part)
            for way in WAYS
            if way["language"] in STUDY.translations
            for part in way["rows"]
        ],
    output:
        table=AT.table.fill(table="translation"),
    log:
        "<logs>/summarise_translation.log",
    conda:
        "../../envs/analyse.yaml"
    resources:
        **LIGHT,
    params:
        version=stages.TRANSLATION.version,
    script:
        "../scripts/summarise_translation.py"


rule export_memory:
    """snakemake export_memory --cores 1: every text of the study with all its translations, as TMX, to publish."""
    input:
        **TRANSLATED_ROWS,
        measures=rules.summarise_translation.input.measures,
        needs=rules.check_budget.input.needs,
    output:
        memory=AT.exported,
    log:
        "<logs>/export_memory.log",
    conda:
        "../../envs/translate.yaml"
    resources:
        **STORE,
        **asks(lambda wildcards: NEEDS.going_through(STUDY.parts, len(STUDY.languages))),
    params:
        specs=OUTWARD,
        parts=STUDY.translated,
        version=stages.TRANSLATION.version,
    script:
        "../scripts/export_memory.py"


rule import_memory:
    """snakemake import_memory --cores 1: put translation.memory into the store, as if the engines had been asked."""
    input:
        memory=TRANSLATION.memory or [],
        needs=rules.check_budget.input.needs,
    log:
        "<logs>/import_memory.log",
    conda:
        "../../envs/translate.yaml"
    resources:
        **STORE,
        **asks(lambda wildcards: NEEDS.going_through(STUDY.parts, len(STUDY.languages))),
    params:
        specs=OUTWARD,
    script:
        "../scripts/import_memory.py"


rule plan:
    """snakemake plan --cores 1: what the study will cost, before it costs anything."""
    input:
        # A plan downloads nothing: of a hub data set that is not here yet it takes what the config expects of it.
        **{
            part: STUDY.rows(part)[0]
            for part in STUDY.parts
            if "path" in STUDY.entry(part, STUDY.source) or Path(STUDY.rows(part)[0]).is_file()
        },
    log:
        "<logs>/plan.log",
    conda:
        "../../envs/translate.yaml"
    resources:
        **STORE,
        **asks(lambda wildcards: SMALL, network=1),  # how large a model is, and what is left of an account
    params:
        ways=WAYS,
    script:
        "../scripts/plan.py"
