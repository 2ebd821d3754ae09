"""What training does to the base model's hidden states, and how alike languages are in them.

In:  all hidden states.
Out: tables/representation.csv, tables/pca.csv.
"""


rule analyse_representations:
    input:
        states=expand(
            f"{STUDY}/hidden_states/{{folder}}/{{language}}.npz",
            folder=[folder for _, folder in state_models()],
            language=LANGUAGES,
        ),
    output:
        table=f"{STUDY}/tables/representation.csv",
        coordinates=f"{STUDY}/tables/pca.csv",
    log:
        f"{STUDY}/logs/analyse_representations.log",
    benchmark:
        f"{STUDY}/benchmarks/analyse_representations.tsv"
    conda:
        "../../envs/analyse.yaml"
    params:
        models=[labels for labels, _ in state_models()],
        languages=LANGUAGES,
        centered=config["representation"]["centered"],
        version=versions.REPRESENTATION,
    script:
        "../scripts/analyse_representations.py"
