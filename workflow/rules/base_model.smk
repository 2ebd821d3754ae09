"""Models from elsewhere, each in a folder that later jobs load from without a network.

In:  a package, a local folder or the hub; the rows of the source language.
Out: base_models/<base>/, safetensors with tokenizer and chat template; corpus/chat_templates.json, what the bases' chat
     templates can do, and which rows they refuse; reward_models/<name>/<key>/, whatever has to be
     downloaded of an off-the-shelf reward model. Manifests last.
"""


rule prepare_base_model:
    input:
        chat_template=lambda wildcards: STUDY.base_chat_template(wildcards.base),
    output:
        folder=directory(AT.base_model),
    log:
        "<logs>/prepare_base_model/{base}.log",
    conda:
        "../../envs/train.yaml"
    resources:
        **asks(
            lambda wildcards: NEEDS.preparing(wildcards.base),
            network=lambda wildcards: int(STUDY.downloads_base(wildcards.base)),
        ),
    params:
        options=lambda wildcards: STUDY.base_options(wildcards.base, Path.cwd()),
        version=stages.BASE_MODEL.version,
    script:
        "../scripts/prepare_base_model.py"


# Downloads happen where the network is; the jobs that need the weights are offline.
localrules:
    fetch_model,
    fetch_tokenizer,


rule fetch_model:
    """A model of the hub, as it is there at its revision; only its tokenizer where nothing else is asked for."""
    output:
        folder=directory(AT.fetched),
    log:
        "<logs>/fetch_model/{name}.{key}.log",
    wildcard_constraints:
        name=any_of(STUDY.config.reward_models),
        key="[a-z]+",
    conda:
        "../../envs/train.yaml"
    resources:
        **asks(lambda wildcards: NEEDS.fetching(wildcards.name, wildcards.key), network=1),
    params:
        download=lambda wildcards: STUDY.download(wildcards.name, wildcards.key),
        version=stages.BASE_MODEL.version,
    script:
        "../scripts/fetch_model.py"


use rule fetch_model as fetch_tokenizer with:
    # Enough to see whether a chat template renders the rows, while the weights are on their way.
    output:
        folder=directory(AT.tokenizer),
    log:
        "<logs>/fetch_tokenizer/{name}.log",
    wildcard_constraints:
        name=any_of([*STUDY.bases, *STUDY.config.reward_models, *STUDY.config.policies]),
    resources:
        **asks(lambda wildcards: SMALL, network=1),
    params:
        download=lambda wildcards: STUDY.tokenizer_download(wildcards.name),
        version=stages.BASE_MODEL.version,


rule check_templates:
    """Before anything is translated: whether the chat template of every model renders the rows that there are."""
    input:
        **{part: STUDY.rows(part)[0] for part in STUDY.parts},
        tokenizers=[model["path"] for model in TEMPLATES.values()],
        chat_templates=[model["chat_template"] for model in TEMPLATES.values() if "chat_template" in model],
    output:
        templates=AT.templates,
    log:
        "<logs>/check_templates.log",
    conda:
        "../../envs/train.yaml"
    resources:
        **asks(lambda wildcards: NEEDS.selecting()),
    params:
        models=TEMPLATES,
        parts=list(STUDY.parts),
        stop_at=[part for part, rows in STUDY.parts.items() if rows.invalid_rows == "stop"],
        max_length=STUDY.config.training.max_length,
        version=stages.TEMPLATES.version,
    script:
        "../scripts/check_templates.py"
