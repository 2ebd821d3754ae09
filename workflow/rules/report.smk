"""Figures with captions. The HTML report is made from them by snakemake --report.

In:  the tables.
Out: figures/*.png and figures/*.pdf.
"""

FIGURES = [
    f"{STUDY}/figures/{name}.{suffix}"
    for name in [
        *(["translation"] if TRANSLATIONS else []),
        "transfer",
        "sections",
        "pca",
        "representation",
        "best_of_n",
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
        table=f"{STUDY}/tables/transfer.csv",
        baseline=f"{STUDY}/tables/length_baseline.csv",
        answer=f"{STUDY}/tables/answer.txt",
    output:
        heatmap=figure("transfer", "1. Transfer"),
        sections=figure("sections", "1. Transfer"),
    log:
        f"{STUDY}/logs/draw_transfer.log",
    benchmark:
        f"{STUDY}/benchmarks/draw_transfer.tsv"
    conda:
        "../../envs/analyse.yaml"
    params:
        style=config["figures"],
        version=versions.FIGURES,
    script:
        "../scripts/draw_transfer.py"


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
