"""Packs give what one text at a time gives, in every family, with every shape of group, on either kernel."""

import copy
import itertools
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModel,
    BertConfig,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3NextConfig,
)

from rmtransfer.models import packing
from rmtransfer.models.packing import PACKED, Batch, batches, group_of, group_texts, packs, use_packed_attention

SHAPE = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
WINDOW = 6  # shorter than most texts, so that windows end within prefixes
MIXED = ["sliding_attention", "full_attention"] * 2
FAMILIES = {
    "llama": LlamaConfig(**SHAPE),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE),
    "mistral": MistralConfig(**SHAPE, sliding_window=WINDOW),
    "gemma3": Gemma3TextConfig(**SHAPE, sliding_window=WINDOW, layer_types=MIXED),
}


def build(config, seed=0):
    torch.manual_seed(seed)
    model = AutoModel.from_config(copy.deepcopy(config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.3)
    return model


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
    monkeypatch.setattr(packing, "varlen_attn", reference_varlen)
    monkeypatch.setattr(packing, "_by_segment", packing._by_varlen)
    texts = [text for these in TEXTS.values() for text in these]
    with torch.no_grad():
        assert relative(together(decoder, batches(decoder, texts, 100)), alone(decoder, texts)) < 1e-5


def test_under_autocast_all_three_inputs_have_one_type(monkeypatch):
    """Rotary embeddings leave queries and keys in fp32 where values are in bf16."""
    seen = []
    original = packing._by_segment
    monkeypatch.setattr(
        packing,
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
    monkeypatch.setattr(packing, "TESTED", set())

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


def shape_of(group):
    """Length of each node and its parent."""
    return [(len(node.tokens), node.parent) for node in group.nodes]


def test_groups_by_hand():
    first, second = tuple(range(10, 22)), tuple(range(40, 60))
    texts = [(*second, 1), (*first, 1, 2), (*second, 2, 3), (*first, 3), (8, 9)]
    groups = sorted(group_texts(texts, 1000), key=lambda group: min(group.members))
    assert [(shape_of(g), g.members) for g in groups] == [
        ([(20, -1), (1, 0), (2, 0)], (0, 2)),
        ([(12, -1), (2, 0), (1, 0)], (1, 3)),
        ([(2, -1)], (4,)),
    ]
    # A tree: three share 12 tokens, two of these 8 more.
    longer = (*first, *range(60, 68))
    (group,) = group_texts([(*longer, 1), (*first, 3), (*longer, 2)], 1000)
    assert shape_of(group) == [(12, -1), (1, 0), (8, 0), (1, 2), (1, 2)]
    assert (group.members, group.leaves) == ((0, 1, 2), (3, 1, 4))
    # Three more tokens are not worth a node, four are.
    for more, shape in ((3, [(12, -1), (4, 0), (4, 0), (1, 0)]), (4, [(12, -1), (4, 0), (1, 1), (1, 1), (1, 0)])):
        beginning = (*first, *range(30, 30 + more))
        (group,) = group_texts([(*beginning, 80), (*beginning, 81), (*first, 90)], 1000)
        assert shape_of(group) == shape


def test_a_pair_keeps_its_order_and_a_token_of_each():
    chosen, rejected = (5, 6, 9), (5, 6)
    group = group_of([chosen, rejected], first=4)
    assert group.members == (4, 5)
    batch = Batch([group])
    assert [batch.input_ids[0][place].tolist() for place in batch.places] == [list(chosen), list(rejected)]
    assert group.tokens == 1 + 2 + 1
    assert shape_of(group_of([(1, 2), (3,)])) == [(2, -1), (1, -1)]  # nothing in common, and no empty node


def test_a_group_stays_within_the_budget_or_two_texts():
    texts = [PROMPT + random_ids(10, i) for i in range(40)]
    for group in group_texts(texts, 100):
        assert group.tokens <= 100
    for group in group_texts(texts, 1):
        assert group.tokens <= 60
    endless = [tuple([7] * n) for n in range(1, 1200, 4)]  # each begins the next: as deep as a tree can be
    assert sum(group.tokens for group in group_texts(endless, 10**6)) < 2000


@given(st.lists(st.lists(st.integers(3, 5), min_size=1, max_size=14), min_size=1, max_size=12), st.integers(1, 60))
def test_every_text_is_in_one_pack_and_whole(texts, budget):
    found = {}
    for batch in packs(group_texts(texts, budget), budget):
        ids, positions = batch.input_ids[0], batch.position_ids[0]
        assert ids.numel() <= max(budget, 2 * max(map(len, texts)))
        for member, place, end in zip(batch.members, batch.places, batch.ends.tolist(), strict=True):
            assert member not in found
            found[member] = ids[place].tolist()
            assert positions[place].tolist() == list(range(len(place)))
            assert place[-1] == end
    assert [found[i] for i in range(len(texts))] == texts
    assert sum(g.tokens for g in group_texts(texts, budget)) <= sum(map(len, texts))
