"""Which families of the installed transformers are served: writes docs/families.md (``python tests/families.py``).

Each family's own configuration class is made small, a causal language model of it is built at random, and everything is asked of
that: nothing here knows a family, but for what makes its configuration small.
"""

import contextlib
import io
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

from rmtransfer.models import families  # noqa: E402
from rmtransfer.models.attention import use_packed_attention  # noqa: E402

VOCABULARY, HIDDEN, LAYERS, HEADS = 120, 32, 2, 2
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "d_model": HIDDEN,
    "n_embd": HIDDEN,
    "intermediate_size": 48,
    "ffn_dim": 48,
    "n_inner": 48,
    "num_hidden_layers": LAYERS,
    "n_layer": LAYERS,
    "n_layers": LAYERS,
    "num_layers": LAYERS,
    "decoder_layers": LAYERS,
    "encoder_layers": LAYERS,
    "num_attention_heads": HEADS,
    "n_head": HEADS,
    "n_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_attention_heads": HEADS,
    "decoder_ffn_dim": 48,
    "encoder_ffn_dim": 48,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "moe_intermediate_size": 16,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def small(family: str) -> Any:
    """A configuration of a family with few parameters."""
    kind = CONFIG_MAPPING[family]
    default = kind()
    for config in {id(c): c for c in (default, default.get_text_config())}.values():
        pass
    known = default.to_dict()
    texts = default.get_text_config()
    if texts is default:
        return kind(**{k: v for k, v in SMALL.items() if k in known or k in kind.attribute_map})
    inner = texts.to_dict()
    nested = {k: v for k, v in SMALL.items() if k in inner or k in type(texts).attribute_map}
    key = next(k for k, v in default.sub_configs.items() if isinstance(texts, v))
    return kind(**{key: {**nested, "model_type": texts.model_type}})


def outcome(family: str) -> tuple[str, str]:
    """How a family is served as a base, and what transformers has of it as a reward model."""
    torch.manual_seed(0)
    try:
        model = AutoModelForCausalLM.from_config(small(family)).eval()
    except Exception as problem:
        return f"not tried ({type(problem).__name__}: {problem})", ""
    try:
        text = families.text_only(model)
        families.check_base(text)
        classifier = families.classifier_on(text)
    except families.NotServedError as problem:
        return f"refused: {problem}", ""
    reason = use_packed_attention(classifier)
    return "served, " + (f"padded: {reason}" if reason else "packed"), type(classifier).__name__


if __name__ == "__main__":
    import signal

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    names = sys.argv[1:] or list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

    def alarm(*a):
        raise TimeoutError("too slow")

    signal.signal(signal.SIGALRM, alarm)
    for family in names:
        signal.alarm(60)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                found = outcome(family)
        except BaseException as p:
            found = f"CRASH {type(p).__name__}: {p}", ""
        signal.alarm(0)
        print(family, "|", *[str(f).replace("\n", " ")[:200] for f in found], sep=" | ", flush=True)
