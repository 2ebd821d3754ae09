"""Packs give what one text at a time gives, in every family, with every shape of group, on either kernel."""

import copy
import itertools
import random

import pytest
import torch
from transformers import (
    BertConfig,
    BloomConfig,
    Gemma2Config,
    GptOssConfig,
    LlamaConfig,
    Qwen3NextConfig,
)

from decoders import FAMILIES, MIXED, SHAPE, build
from rmtransfer.models import attention
from rmtransfer.models.attention import use_packed_attention
from rmtransfer.models.packing import PACKED, Batch, batches, group_of


@pytest.fixture(scope="module", params=list(FAMILIES))
def decoder(request):
    return build(FAMILIES[request.param])


def random_ids(count, seed):
    generator = random.Random(seed)
    return tuple(generator.randrange(3, 99) for _ in range(count))


PROMPT, OTHER = random_ids(20, 1), random_ids(9, 2)
TEXTS = {
    "a pair": [PROMPT + random_ids(9, 3), PROMPT + random_ids(14, 4)],
    "nothing shared": [random_ids(11, 5), random_ids(23, 6)],
    "a prompt of one token": [(7, *random_ids(8, 7)), (7, *random_ids(5, 8))],
    "equal answers": [PROMPT + OTHER, PROMPT + OTHER],
    "one answer begins the other": [PROMPT + OTHER, PROMPT + OTHER[:4], PROMPT],
    "one answer": [PROMPT + OTHER],
    "one token": [(5,), (6,)],
    "answers that share beginnings": [PROMPT + OTHER + random_ids(n, n) for n in (3, 5)] + [PROMPT + random_ids(6, 9)],
    "sixteen answers": [PROMPT + random_ids(2 + i, 50 + i) for i in range(16)],
}


def alone(decoder, texts):
    """Last states of one text at a time, by the attention that the model comes with."""
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation("sdpa")
    states = [decoder(input_ids=torch.tensor([text]), use_cache=False).last_hidden_state[0, -1] for text in texts]
    decoder.set_attn_implementation(before)
    return torch.stack(states)


def together(decoder, packed):
    states = {}
    for batch in packed:
        states.update(zip(batch.members, batch.hidden(decoder)[batch.ends], strict=True))
    return torch.stack([states[i] for i in range(len(states))])


def relative(got, expected):
    return ((got - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("shape", list(TEXTS))
def test_states_are_those_of_one_text_at_a_time(decoder, shape):
    assert use_packed_attention(decoder) is None
    assert decoder.config._attn_implementation == PACKED
    texts = TEXTS[shape]
    with torch.no_grad():
        expected = alone(decoder, texts)
        assert relative(together(decoder, [Batch([group_of(texts)])]), expected) < 1e-5
        for budget in (1, 60, 1000):
            assert relative(together(decoder, batches(decoder, texts, budget)), expected) < 1e-5


def test_gradients_are_those_of_one_text_at_a_time(decoder):
    use_packed_attention(decoder)
    texts = [text for these in TEXTS.values() for text in these]
    weights = torch.randn(len(texts), SHAPE["hidden_size"])
    found = []
    for states in (alone(decoder, texts), together(decoder, batches(decoder, texts, 100))):
        decoder.zero_grad()
        (states * weights).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in decoder.parameters()]))
    assert found[0].abs().max() > 0
    assert relative(found[1], found[0]) < 1e-5


def test_a_score_does_not_depend_on_what_shares_its_pack(decoder):
    use_packed_attention(decoder)
    pair = TEXTS["a pair"]
    others = [random_ids(n, 70 + n) for n in (4, 17, 30)]
    with torch.no_grad():
        by_itself = together(decoder, [Batch([group_of(pair)])])
        among = together(decoder, [Batch([group_of(others, first=2), group_of(pair)])])[:2]
    assert relative(among, by_itself) < 1e-5


def reference_varlen(q, k, v, cu_q, cu_k, max_q, max_k, *, scale, window_size, enable_gqa, num_splits):
    """torch's variable-length attention from its documentation: causal from the bottom right, a window to the left."""
    assert enable_gqa == (q.shape[1] != k.shape[1])
    assert num_splits == 1
    assert cu_q.dtype == cu_k.dtype == torch.int32
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    left, right = window_size
    out = torch.empty_like(q)
    spans = list(zip(itertools.pairwise(cu_q.tolist()), itertools.pairwise(cu_k.tolist()), strict=True))
    assert max_q == max(b - a for (a, b), _ in spans)
    assert max_k == max(b - a for _, (a, b) in spans)
    for (a, b), (c, d) in spans:
        scores = torch.einsum("qhd,khd->hqk", q[a:b], k[c:d]) * scale
        rows = torch.arange(b - a)[:, None] + (d - c) - (b - a)
        columns = torch.arange(d - c)[None]
        seen = columns <= rows + right
        if left >= 0:
            seen &= columns >= rows - left
        out[a:b] = torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), v[c:d])
    return out


def test_the_variable_length_call_of_a_gpu(decoder, monkeypatch):
    """All but the kernel, for which a plain implementation of its documentation stands in."""
    use_packed_attention(decoder)
    monkeypatch.setattr(attention, "varlen_attn", reference_varlen)
    monkeypatch.setattr(attention, "_by_segment", attention._by_varlen)
    texts = [text for these in TEXTS.values() for text in these]
    with torch.no_grad():
        assert relative(together(decoder, batches(decoder, texts, 100)), alone(decoder, texts)) < 1e-5


def test_under_autocast_all_three_inputs_have_one_type(monkeypatch):
    """Rotary embeddings leave queries and keys in fp32 where values are in bf16."""
    seen = []
    original = attention._by_segment
    monkeypatch.setattr(
        attention,
        "_by_segment",
        lambda q, k, v, *rest: (seen.append((q.dtype, k.dtype, v.dtype)), original(q, k, v, *rest))[1],
    )
    decoder = build(FAMILIES["llama"])
    use_packed_attention(decoder)
    seen.clear()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        together(decoder, [Batch([group_of(TEXTS["a pair"])])])
    assert set(seen) == {(torch.bfloat16,) * 3}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (Gemma2Config(**SHAPE), "caps"),
        (GptOssConfig(**SHAPE, num_local_experts=4, layer_types=MIXED), "sinks"),
        (Qwen3NextConfig(**SHAPE, num_experts=4, num_experts_per_tok=2), "chosen|layers of"),
        (BloomConfig(vocab_size=99, hidden_size=32, n_layer=2, n_head=4), "chosen"),
        (
            BertConfig(vocab_size=99, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4),
            "causal",
        ),
        (LlamaConfig(**SHAPE, attention_dropout=0.1), "at random"),
    ],
)
def test_what_packs_cannot_serve_is_named_and_left_as_it_was(config, reason):
    model = build(config)
    before = model.config._attn_implementation
    why = use_packed_attention(model)
    assert why is not None
    assert any(word in why for word in reason.split("|"))
    assert model.config._attn_implementation == before
    texts = [random_ids(9, 1), random_ids(5, 2)]
    padded = list(batches(model, texts, 100))
    assert [batch.attention_mask is None for batch in padded] == [False]
    with torch.no_grad():
        # Neighbours are seen by none: padding, where there is any, is masked.
        expected = [
            model(input_ids=torch.tensor([text]), position_ids=torch.arange(len(text))[None]).last_hidden_state[0, -1]
            if "position_ids" in model.forward.__code__.co_varnames
            else model(input_ids=torch.tensor([text])).last_hidden_state[0, -1]
            for text in texts
        ]
        assert relative(together(model, padded), torch.stack(expected)) < 1e-4


def test_a_model_whose_attention_ignores_packs_is_found_out(monkeypatch):
    monkeypatch.setattr(attention, "TESTED", set())

    class Own(type(build(FAMILIES["llama"]))):
        pass

    own = Own(copy.deepcopy(FAMILIES["llama"])).eval()
    assert use_packed_attention(own) == "its code is its own"
    Own.__module__ = "transformers.models.llama.modeling_llama"
    plain = Own.forward
    Own.forward = lambda self, pack=None, **rest: plain(
        self, pack=pack and Batch([group_of([pack.input_ids[0].tolist()])]), **rest
    )
    assert "others than of one text" in use_packed_attention(own)


def test_a_forward_pass_without_a_pack_is_refused():
    decoder = build(FAMILIES["llama"])
    use_packed_attention(decoder)
    with pytest.raises(RuntimeError, match="computes packs"):
        decoder(input_ids=torch.tensor([[5, 6]]))
