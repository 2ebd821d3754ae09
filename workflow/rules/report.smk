"""Figures with captions. The HTML report is made from them by snakemake --report.

In:  the tables.
Out: figures/*.png and figures/*.pdf.
"""

OF_A_BENCHMARK = [
    "transfer",
    "sections",
    *(["source_against_target"] if BASES else []),
    "consistency",
    "rewards",
    "length_bias",
]
FIGURES = [
    f"{STUDY}/figures/{name}.{suffix}"
    for name in [
        *(["translation"] if TRANSLATIONS else []),
        *(f"{at}{name}" for at in AT for name in OF_A_BENCHMARK),
        *(["pca", "representation", "best_of_n"] if BASES else []),
    ]
    for suffix in ("png", "pdf")
]


rule draw_translation:
    input:
        table=f"{STUDY}/tables/translation.csv",
    output:
        outcomes=figure("translation", "0. Translation"),
    log:
        f"{STUDY}/logs/draw_translation.log",
    benchmark:
        f"{STUDY}/benchmarks/draw_translation.tsv"
    conda:
        "../../envs/analyse.yaml"
    params:
        style=config["figures"],
        version=versions.FIGURES,
    script:
        "../scripts/draw_translation.py"


rule draw_transfer:
    input:
        **{table: f"{STUDY}/tables/{{at}}{table}.csv" for table in TABLES},
        answer=f"{STUDY}/tables/{{at}}answer.txt",
    output:
        transfer=figure("transfer", "1. Transfer", "{at}"),
        sections=figure("sections", "1. Transfer", "{at}"),
        consistency=figure("consistency", "1. Transfer", "{at}"),
        rewards=figure("rewards", "1. Transfer", "{at}"),
        length_bias=figure("length_bias", "1. Transfer", "{at}"),
    log:
        f"{STUDY}/logs/draw_transfer/{{at}}transfer.log",
    benchmark:
        f"{STUDY}/benchmarks/draw_transfer/{{at}}transfer.tsv"
    conda:
        "../../envs/analyse.yaml"
    params:
        style=config["figures"],
        version=versions.FIGURES,
    script:
        "../scripts/draw_transfer.py"


rule draw_source_against_target:
    input:
        seeds=f"{STUDY}/tables/{{at}}seeds.csv",
    output:
        dumbbell=figure("source_against_target", "1. Transfer", "{at}"),
    log:
        f"{STUDY}/logs/draw_source_against_target/{{at}}transfer.log",
    benchmark:
        f"{STUDY}/benchmarks/draw_source_against_target/{{at}}transfer.tsv"
    conda:
        "../../envs/analyse.yaml"
    params:
        source=SOURCE,
        style=config["figures"],
        version=versions.FIGURES,
    script:
        "../scripts/draw_source_against_target.py"


rule draw_representation:
    input:
        table=f"{STUDY}/tables/representation.csv",
        coordinates=f"{STUDY}/tables/pca.csv",
    output:
        pca=figure("pca", "2. Representation"),
        shift=figure("representation", "2. Representation"),
    log:
        f"{STUDY}/logs/draw_representation.log",
    benchmark:
        f"{STUDY}/benchmarks/draw_representation.tsv"
    conda:
        "../../envs/analyse.yaml"
    params:
        style=config["figures"],
        version=versions.FIGURES,
    script:
        "../scripts/draw_representation.py"


rule draw_alignment:
    input:
        table=f"{STUDY}/tables/alignment.csv",
    output:
        curves=figure("best_of_n", "3. Alignment"),
    log:
        f"{STUDY}/logs/draw_alignment.log",
    benchmark:
        f"{STUDY}/benchmarks/draw_alignment.tsv"
    conda:
        "../../envs/analyse.yaml"
    params:
        style=config["figures"],
        version=versions.FIGURES,
    script:
        "../scripts/draw_alignment.py"
