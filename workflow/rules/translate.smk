"""Rows of the source language into each target language, with a receipt.

In:  corpus/<role>.parquet; a translation memory, a model, or an account.
Out: translations/<language>/<role>.parquet, its ledger <role>.dropped.csv and what was counted, <role>.measures.csv;
     tables/translation.csv. Whatever an engine answered stays in the translation store, whatever happens to these.
"""

# What must be there before a character is asked for.
BUDGET = [f"{STUDY}/translations/budget.csv"] if "budget_characters" in config["translation"] else []
# What the way back will ask for: an engine, and the benchmark in every language where it is there.
BACK = None
if TRANSLATED_BACK:
    BACK = {
        "spec": back_engine(),
        "benchmarks": {language: rows_of("benchmark", language) for language in TRANSLATED_BACK},
    }


rule translate_rows:
    input:
        rows=f"{STUDY}/corpus/{{role}}.parquet",
        needs=lambda wildcards: engine_files(wildcards.language),
        references=config["translation"].get("references", []),
        budget=BUDGET,
    output:
        rows=f"{STUDY}/translations/{{language}}/{{role}}.parquet",
        dropped=f"{STUDY}/translations/{{language}}/{{role}}.dropped.csv",
        measures=f"{STUDY}/translations/{{language}}/{{role}}.measures.csv",
    log:
        f"{STUDY}/logs/translate_rows/{{language}}.{{role}}.log",
    benchmark:
        f"{STUDY}/benchmarks/translate_rows/{{language}}.{{role}}.tsv"
    wildcard_constraints:
        role=any_of(TRANSLATED),
    conda:
        "../../envs/translate.yaml"
    threads: lambda wildcards: HEAVY if runs_a_model(wildcards.language) else 1
    resources:
        gpu=lambda wildcards: int(runs_a_model(wildcards.language)),
        tokens_per_batch=resource("tokens_per_batch"),
        requests_at_once=resource("requests_at_once"),
        device=resource("device"),
        # Where results rest and what they may cost does not change what they are.
        store=config["translation"]["store"],
        budget=config["translation"].get("budget_characters", sys.maxsize),
    params:
        role=lambda wildcards: wildcards.role,
        spec=lambda wildcards: engine_of(wildcards.language),
        source=SOURCE,
        target=lambda wildcards: wildcards.language,
        version=versions.TRANSLATION,
    script:
        "../scripts/translate_rows.py"


rule translate_back:
    """The benchmark in a target language, in the source language again: what translate-test judges."""
    input:
        rows=lambda wildcards: rows_of("benchmark", wildcards.language),
        needs=lambda wildcards: files_of_engine(back_engine()),
        budget=BUDGET,
    output:
        rows=rows_in_source("{language}"),
        dropped=f"{STUDY}/translations/{{language}}/benchmark.back.dropped.csv",
        measures=f"{STUDY}/translations/{{language}}/benchmark.back.measures.csv",
    log:
        f"{STUDY}/logs/translate_back/{{language}}.log",
    benchmark:
        f"{STUDY}/benchmarks/translate_back/{{language}}.tsv"
    conda:
        "../../envs/translate.yaml"
    threads: HEAVY
    resources:
        gpu=lambda wildcards: int(back_engine()["engine"] in RUN_A_MODEL),
        tokens_per_batch=resource("tokens_per_batch"),
        requests_at_once=resource("requests_at_once"),
        device=resource("device"),
        store=config["translation"]["store"],
        budget=config["translation"].get("budget_characters", sys.maxsize),
    params:
        role="benchmark",
        spec=lambda wildcards: back_engine(),
        source=lambda wildcards: split_variant(wildcards.language)[0],
        target=SOURCE,
        version=versions.TRANSLATION,
    script:
        "../scripts/translate_rows.py"


rule check_budget:
    input:
        rows=[f"{STUDY}/corpus/{role}.parquet" for role in TRANSLATED],
        needs=[engine_files(language) for language in TRANSLATIONS],
        benchmark=f"{STUDY}/corpus/benchmark.parquet" if TRANSLATED_BACK else [],
    output:
        plan=f"{STUDY}/translations/budget.csv",
    log:
        f"{STUDY}/logs/check_budget.log",
    benchmark:
        f"{STUDY}/benchmarks/check_budget.tsv"
    conda:
        "../../envs/translate.yaml"
    resources:
        store=config["translation"]["store"],
        budget=config["translation"].get("budget_characters", sys.maxsize),
    params:
        specs={language: engine_of(language) for language in TRANSLATIONS},
        back=BACK,
        source=SOURCE,
        roles=TRANSLATED,
        version=versions.TRANSLATION,
    script:
        "../scripts/check_budget.py"


rule summarise_translation:
    input:
        measures=expand(
            f"{STUDY}/translations/{{language}}/{{role}}.measures.csv",
            language=TRANSLATIONS,
            role=TRANSLATED,
        ),
    output:
        table=f"{STUDY}/tables/translation.csv",
    log:
        f"{STUDY}/logs/summarise_translation.log",
    benchmark:
        f"{STUDY}/benchmarks/summarise_translation.tsv"
    conda:
        "../../envs/analyse.yaml"
    params:
        version=versions.TRANSLATION,
    script:
        "../scripts/summarise_translation.py"


rule export_memory:
    """snakemake export_memory --cores 1: every text of the study with all its translations, as TMX, to publish."""
    input:
        rows=[f"{STUDY}/corpus/{role}.parquet" for role in TRANSLATED],
        measures=rules.summarise_translation.input.measures,
        needs=[engine_files(language) for language in TRANSLATIONS],
    output:
        memory=f"{STUDY}/translations/memory.tmx",
    log:
        f"{STUDY}/logs/export_memory.log",
    conda:
        "../../envs/translate.yaml"
    resources:
        store=config["translation"]["store"],
    params:
        specs={language: engine_of(language) for language in TRANSLATIONS},
        source=SOURCE,
        roles=TRANSLATED,
        version=versions.TRANSLATION,
    script:
        "../scripts/export_memory.py"


rule import_memory:
    """snakemake import_memory --cores 1: put translation.memory into the store, as if the engines had been asked."""
    input:
        memory=config["translation"].get("memory", []),
        needs=[engine_files(language) for language in TRANSLATIONS],
    log:
        f"{STUDY}/logs/import_memory.log",
    conda:
        "../../envs/translate.yaml"
    resources:
        store=config["translation"]["store"],
    params:
        specs={language: engine_of(language) for language in TRANSLATIONS},
        source=SOURCE,
    script:
        "../scripts/import_memory.py"


rule plan:
    """snakemake plan --cores 1: what the study will cost, before it costs anything."""
    input:
        # A plan downloads nothing: of a hub data set that is not here yet it takes what the config expects of it.
        **{
            role: f"{STUDY}/corpus/{role}.parquet"
            for role in ROLES
            if "path" in entry_of(role, SOURCE) or Path(f"{STUDY}/corpus/{role}.parquet").is_file()
        },
    log:
        f"{STUDY}/logs/plan.log",
    conda:
        "../../envs/translate.yaml"
    resources:
        store=config["translation"]["store"],
    params:
        config=config,
        specs={language: engine_of(language) for language in TRANSLATIONS},
        back=BACK,
    script:
        "../scripts/plan.py"
