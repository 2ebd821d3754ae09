"""What training does to the base model's hidden states, and how alike languages are in them.

In:  all hidden states.
Out: tables/representation.csv, tables/pca.csv.
"""


rule analyse_representations:
    input:
        states=expand(
            AT.states,
            reward_model=[
                *(f"{base}/base" for base in STUDY.bases),
                *(model.id for model in STUDY.full_reward_models),
            ],
            benchmark=STUDY.leading,
            language=STUDY.languages,
        ),
    output:
        table=AT.table.fill(table="representation"),
        coordinates=AT.table.fill(table="pca"),
    log:
        "<logs>/analyse_representations.log",
    conda:
        "../../envs/analyse.yaml"
    resources:
        **asks(lambda wildcards: NEEDS.representing()),
    params:
        centered=STUDY.config.representation.centered,
        version=stages.REPRESENTATION.version,
    script:
        "../scripts/analyse_representations.py"
