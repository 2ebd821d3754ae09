"""A base model, wherever it comes from, in one folder that every later stage loads from.

In:  a package, a local folder or the hub.
Out: base_models/<base>/, safetensors with tokenizer and chat template, manifest last.
"""


rule prepare_base_model:
    input:
        chat_template=lambda wildcards: config["base_models"][wildcards.base].get("chat_template", []),
    output:
        folder=directory(f"{STUDY}/base_models/{{base}}"),
    log:
        f"{STUDY}/logs/prepare_base_model/{{base}}.log",
    benchmark:
        f"{STUDY}/benchmarks/prepare_base_model/{{base}}.tsv"
    conda:
        "../../envs/train.yaml"
    params:
        spec=lambda wildcards: config["base_models"][wildcards.base],
        version=versions.BASE_MODEL,
    script:
        "../scripts/prepare_base_model.py"
