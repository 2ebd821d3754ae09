"""Which families of the installed transformers are served: writes docs/families.md (``python tests/families.py``, 3 minutes).

Of each family that has a causal language model a small one is built at random, and is asked what a base model is asked when it
is prepared. Nothing here knows how a family is served; what is known is how its configuration becomes small.
"""

import itertools
import logging
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

from rmtransfer.models import families  # noqa: E402
from rmtransfer.models.attention import use_packed_attention  # noqa: E402

TABLE = ROOT / "docs/families.md"
_SECONDS = 60  # for one family; some build parts of the size of a real model
# What families call their sizes.
_SIZES = {
    32: "hidden_size d_model n_embd word_embed_proj_dim embedding_size",
    48: "intermediate_size ffn_dim n_inner decoder_ffn_dim encoder_ffn_dim shared_intermediate_size dff",
    2: "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_attention_heads n_head n_heads "
    "decoder_attention_heads encoder_attention_heads num_experts_per_tok",
    16: "head_dim moe_intermediate_size v_head_dim kv_lora_rank q_lora_rank mamba_d_head",
    8: "qk_nope_head_dim qk_rope_head_dim rotary_dim",
    4: "num_experts num_local_experts n_routed_experts mamba_n_heads num_heads",
    1: "num_key_value_heads n_group topk_group bos_token_id",
    120: "vocab_size vocab_size_per_layer_input",
    64: "max_position_embeddings n_positions",
    0: "pad_token_id num_kv_shared_layers hidden_size_per_layer_input",
}
_SMALL = {name: size for size, names in _SIZES.items() for name in names.split()}
# What some constructors want otherwise, one after the other until a model computes; None: as it is by default.
_FOUR = dict.fromkeys(_SIZES[2].split()[:-1], 4)
_OTHERWISE: tuple[dict[str, Any], ...] = (
    {},
    {"num_key_value_heads": 2},
    {**_FOUR, "num_key_value_heads": 4, "head_dim": 8},
    {**_FOUR, "num_key_value_heads": 2, "head_dim": 8, "num_experts_per_tok": 1},
    {**_FOUR, "num_key_value_heads": 4, "num_heads": 4, "head_dim": 16, "attention_types": [[["global", "local"], 2]]},
    {"num_key_value_heads": 2, "head_dim": None, "hidden_size_per_layer_input": 8, "first_k_dense_replace": 1},
    {"mamba_d_head": None, "mamba_n_heads": None, "num_key_value_heads": 2},
)


class Served(NamedTuple):
    """What comes of a family as a base: how it is computed, or why it is refused; and the class of its reward models."""

    how: str | None
    refusal: str | None
    classifier: str = ""


NOT_TRIED = Served(None, "no small model of it can be built")


def small(family: str, *, by_layer: bool = True, **otherwise: Any) -> PreTrainedConfig:
    """A configuration of a family with few parameters.

    Args:
        by_layer: whether lists with an entry for each layer are cut, which some classes do themselves.
    """
    kind = CONFIG_MAPPING[family]
    default = kind()
    text = default.get_text_config()
    known = text.to_dict()
    sizes = {k: v for k, v in {**_SMALL, **otherwise}.items() if k in known or k in type(text).attribute_map}
    sizes = {name: size for name, size in sizes.items() if size is not None}
    depth = getattr(text, "num_hidden_layers", None)
    layers = next((sizes[k] for k in ("num_hidden_layers", "n_layer", "n_layers", "num_layers") if k in sizes), depth)
    for name, value in known.items():  # one entry a layer
        if by_layer and isinstance(value, list) and depth and len(value) == depth and name not in sizes:
            sizes[name] = value[-layers:] if name == "layer_types" else value[:layers]
    if text is default:
        return kind(**sizes)
    key = next(k for k, v in default.sub_configs.items() if isinstance(text, v))
    return kind(**{key: {**sizes, "model_type": text.model_type}})


def _ask(config: PreTrainedConfig) -> Served:
    torch.manual_seed(0)
    try:
        text = families.text_only(AutoModelForCausalLM.from_config(config).eval())
        families.check_base(text)
    except families.NotServedError as problem:
        return Served(None, str(problem))
    classifier = families.classifier_on(text)
    return Served(use_packed_attention(classifier) or "packed", None, type(classifier).__name__)


def serve(family: str) -> Served:
    """What comes of a family."""
    found = NOT_TRIED
    for otherwise, by_layer in itertools.product(_OTHERWISE, (True, False)):
        try:
            now = _ask(small(family, by_layer=by_layer, **otherwise))
        except Exception as problem:  # whatever a constructor makes of sizes that it does not expect
            if "too slow" in str(problem):
                return found
            continue
        if now.how or "fails on a short text" not in str(now.refusal):
            return now
        found = now
    return found


def survey(names: list[str]) -> Iterator[tuple[str, Served]]:
    """Each family with what comes of it."""

    def stop(*_: object) -> None:
        raise TimeoutError("too slow")

    signal.signal(signal.SIGALRM, stop)
    for name in names:
        signal.alarm(_SECONDS)
        try:
            yield name, serve(name)
        except TimeoutError:
            yield name, NOT_TRIED
        finally:
            signal.alarm(0)


def row(name: str, served: Served) -> str:
    """A line of the table."""
    own = name not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    if served.how is None:
        return f"| {name} | {' '.join(str(served.refusal).replace('|', '/').split())[:200]} |"
    how = "packs" if served.how == "packed" else f"padded rows: {served.how}"
    return f"| {name} | {how} | {'ours' if own else served.classifier} |"


def page(found: dict[str, Served]) -> str:
    """docs/families.md."""
    served = [row(name, one) for name, one in found.items() if one.how]
    refused = [row(name, one) for name, one in found.items() if not one.how and one != NOT_TRIED]
    unknown = [name for name, one in found.items() if one == NOT_TRIED]
    others = [name for name in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES if name not in found]
    return "\n".join(
        [
            "# Families of base models and reward models",
            "",
            f"Made by `python tests/families.py` from transformers {transformers.__version__}: a small model of every family that has",
            "a causal language model there, built at random and asked what a base is asked when it is prepared. No name decides.",
            "",
            f"## Served as bases ({len(served)} of {len(found)})",
            "",
            "How texts are computed: in packs (each prompt once for all its answers), or one padded row each. The class of its reward",
            "models is that of transformers, or ours where transformers has none: a linear head without bias on the family's",
            "backbone, saved with the model as `reward_modeling.py`, so that others load it with `trust_remote_code=True`. Of a model",
            "that also sees or hears, the language model alone is taken.",
            "",
            "| family | computed in | class of its reward models |",
            "|---|---|---|",
            *served,
            "",
            f"## Refused as bases ({len(refused)})",
            "",
            "| family | reason |",
            "|---|---|",
            *refused,
            "",
            f"## Not tried ({len(unknown)})",
            "",
            "No small model of these could be built here; a real one is asked when it is prepared:",
            "",
            ", ".join(unknown) + ".",
            "",
            "## Reward models of others (`kind: classifier`)",
            "",
            "Whatever `AutoModelForSequenceClassification` loads. The linear head of a decoder is applied to the last token's state, as",
            "above; any other, by the model's own forward pass in batches of equal length. Encoders that were trained on pairs of",
            "question and answer need `pair: true`. Beside families above whose class is transformers':",
            "",
            ", ".join(others) + ".",
            "",
        ]
    )


def quiet() -> None:
    """Without the warnings that building 189 families brings."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)


if __name__ == "__main__":
    quiet()
    found = {}
    for name, served in survey(sys.argv[1:] or list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)):
        found[name] = served
        print(row(name, served), flush=True)
    if not sys.argv[1:]:
        TABLE.write_text(page(found), encoding="utf-8")
