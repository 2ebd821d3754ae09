"""A model in two parts is the whole model, and the lower part's states are computed once, whoever asks first."""

import copy
import errno
import fcntl
import multiprocessing
import os
import signal
import time

import pytest
import torch
from transformers import (
    AutoModel,
    GPT2Config,
)

from decoders import FAMILIES, SHAPE, build
from rmtransfer.models import trunk as trunks
from rmtransfer.models.attention import use_packed_attention
from rmtransfer.models.packing import Batch, group_of, group_texts, packs
from rmtransfer.models.trunk import build_trunk

TOLERANCE = 1e-6
OTHER_ROWS = 1e-5  # a product's rounding may change with the number of its rows
LAYERS = SHAPE["num_hidden_layers"]
START = list(range(10, 40))
TEXTS = [
    [*START, 50, 51],
    [*START, 52],
    list(range(60, 90)),
    [*START[:20], 53, 54, 55],
    [7],
    [91, 92, 93],
    [91, 92, 94],
]
TOKENS = sum(group.tokens for group in group_texts(TEXTS, 1000))


def decoder(family):
    model = build(FAMILIES[family])
    use_packed_attention(model)
    return model


@pytest.fixture
def model():
    return decoder("gemma3")


@pytest.fixture
def pack():
    return Batch(group_texts(TEXTS, 1000))


@pytest.fixture
def store(tmp_path):
    return tmp_path / "trunk"


def through(trunk, pack):
    return pack.hidden(trunk.upper, trunk.embeds(pack))


def counted(model):
    """Tokens that go through the first block from now on, a number for each pass."""
    passes = []
    model.layers[0].register_forward_pre_hook(lambda module, args: passes.append(args[0].shape[1]))
    return passes


def files(store):
    return sorted(store.glob("??/*.safetensors"))


@pytest.mark.parametrize("layers", [1, 2, LAYERS])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_parts_are_the_whole(family, layers, pack, store):
    model = decoder(family)
    with torch.no_grad():
        whole = pack.hidden(model)
        computed = through(build_trunk(model, "base", layers, store, 1), pack)
        read = through(build_trunk(model, "base", layers, store, 1), pack)
        after = pack.hidden(model)
    assert (computed - whole).abs().max() <= TOLERANCE
    assert (read - whole).abs().max() <= TOLERANCE
    assert torch.equal(after, whole)  # the model is as it was
    assert len(model.layers) == model.config.num_hidden_layers == LAYERS


def test_another_model_on_the_same_trunk_computes_none_of_it(model, pack, store):
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.layers[2:].parameters():
            parameter.mul_(1.5)
        expected = pack.hidden(other)
        through(build_trunk(model, "base", 2, store, 1), pack)
        trunk = build_trunk(other, "base", 2, store, 1)
        passes = counted(other)
        got = through(trunk, pack)
    assert passes == []
    assert (got - expected).abs().max() <= TOLERANCE
    assert (got - pack.hidden(model)).abs().max() > 0.1  # otherwise this could not fail


def test_only_what_is_missing_is_computed(model, store):
    groups = group_texts(TEXTS, 1000)
    trunk = build_trunk(model, "base", 2, store, 1)
    trunk.embeds(Batch(groups[:2]))
    passes = counted(model)
    got = trunk.embeds(Batch([*groups[2:], *groups[:2], groups[2]]))
    assert passes == [sum(group.tokens for group in groups[2:])]
    fresh = build_trunk(model, "base", 2, store / "elsewhere", 1)
    expected = fresh.embeds(Batch([*groups[2:], *groups[:2], groups[2]]))
    torch.testing.assert_close(got, expected, atol=OTHER_ROWS, rtol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("layers", [2, LAYERS])
def test_gradients_are_those_of_the_whole_model(model, pack, store, layers, checkpointing):
    model.requires_grad_(False)
    model.norm.requires_grad_(True)
    model.layers[layers:].requires_grad_(True)
    if checkpointing:
        model.train()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    found = []
    trunk = build_trunk(model, "base", layers, store, 1)
    for forward in (lambda: pack.hidden(model), lambda: through(trunk, pack), lambda: through(trunk, pack)):
        model.zero_grad()
        forward()[pack.ends].square().sum().backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert len(found[0]) == sum(p.requires_grad for p in model.parameters())
    for got in found[1:]:
        assert got.keys() == found[0].keys()
        for name, gradient in found[0].items():
            torch.testing.assert_close(got[name], gradient, atol=0, rtol=1e-5)


def test_a_full_store_is_left_as_it_is(model, pack, store, capsys):
    with torch.no_grad():
        whole = pack.hidden(model)
        trunk = build_trunk(model, "base", 2, store, 6000e-9)
        passes = counted(model)
        for _ in range(2):
            assert (through(trunk, pack) - whole).abs().max() <= OTHER_ROWS
    kept = files(store)
    assert 0 < len(kept) < len(pack.groups)
    assert sum(path.stat().st_size for path in kept) <= 6000
    assert 0 < passes[1] < passes[0] == TOKENS
    assert capsys.readouterr().out.count("computed and not kept: 6e-06 GB of states are in") == 1


def test_what_others_have_stored_counts_too(model, pack, store):
    build_trunk(model, "base", 2, store, 1).embeds(pack)
    before = files(store)
    size = sum(path.stat().st_size for path in before)
    build_trunk(model, "another base", 2, store, (size + 100) / 1e9).embeds(pack)
    assert files(store) == before


@pytest.mark.parametrize("content", [lambda data: data[:-40], lambda data: b"", lambda data: b"\xff" * len(data)])
def test_a_damaged_file_is_computed_again(model, pack, store, content):
    trunk = build_trunk(model, "base", 2, store, 1)
    expected = trunk.embeds(pack)
    damaged = files(store)[0]
    whole = damaged.read_bytes()
    damaged.write_bytes(content(whole))
    passes = counted(model)
    torch.testing.assert_close(trunk.embeds(pack), expected, atol=OTHER_ROWS, rtol=0)
    assert len(passes) == 1
    assert damaged.stat().st_size == len(whole)
    trunk.embeds(pack)
    assert len(passes) == 1


def test_states_of_one_base_depth_or_arithmetic_are_not_taken_for_anothers(model, pack, store):
    build_trunk(model, "base", 2, store, 1).embeds(pack)
    other, deeper = build_trunk(model, "another base", 2, store, 1), build_trunk(model, "base", 3, store, 1)
    trunk = build_trunk(model, "base", 2, store, 1)
    passes = counted(model)
    other.embeds(pack)
    deeper.embeds(pack)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = trunk.embeds(pack)
    assert passes == [TOKENS] * 3
    assert (rounded - trunk.embeds(pack)).abs().max() > 1e-4
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(trunk.embeds(pack), rounded)
    assert passes == [TOKENS] * 3


def test_the_order_and_the_place_of_a_text_do_not_matter(model, store):
    trunk = build_trunk(model, "base", 2, store, 1)
    for batch in packs(group_texts(TEXTS, 1000), 10):
        trunk.embeds(batch)
    passes = counted(model)
    for batch in packs(group_texts(TEXTS, 1000), 1000):
        trunk.embeds(batch)
    assert passes == []


def test_the_same_tokens_cut_in_another_way_are_another_group(model, store):
    trunk = build_trunk(model, "base", 2, store, 1)
    trunk.embeds(Batch([group_of([[60, 61, 62, 63, 64]])]))
    passes = counted(model)
    trunk.embeds(Batch([group_of([[60, 61, 62], [60, 61, 63, 64]])]))
    assert passes == [5]


def test_a_model_in_bf16_is_computed_whole(store):
    """Its states round as the pack wants that they are computed in, and the next pack is another one."""
    assert build_trunk(decoder("llama").to(torch.bfloat16), "base", 2, store, 1) is None


def slowly(model, seconds):
    model.layers[0].register_forward_pre_hook(lambda *_: time.sleep(seconds))


def work_at_once(model, store, order, ready, results):
    trunk = build_trunk(model, "base", 2, store, 1)
    passes = counted(model)
    slowly(model, 0.05)
    groups = group_texts(TEXTS, 1000)
    ready.wait()
    rows = []
    for start in range(0, len(groups), 2):
        these = [groups[i] for i in order[start : start + 2]]
        rows.append(trunk.embeds(Batch(these))[0].numpy())
    results.put((passes, order, rows))


@pytest.mark.parametrize("reverse", [False, True])
def test_two_jobs_at_once_compute_nothing_twice(model, store, reverse):
    torch.set_num_threads(1)
    context = multiprocessing.get_context("fork")
    ready, results = context.Barrier(2), context.Queue()
    count = len(group_texts(TEXTS, 1000))
    assert count > 2
    orders = [list(range(count)), list(range(count))[:: -1 if reverse else 1]]
    jobs = [context.Process(target=work_at_once, args=(model, store, order, ready, results)) for order in orders]
    for job in jobs:
        job.start()
    found = [results.get(timeout=60) for _ in jobs]
    for job in jobs:
        job.join(60)
        assert job.exitcode == 0
    assert sum(sum(passes) for passes, _, _ in found) == TOKENS
    if reverse:
        assert all(passes for passes, _, _ in found)  # neither waits for the other while there is something to do
    groups = group_texts(TEXTS, 1000)
    for _, order, rows in found:
        expected = build_trunk(model, "base", 2, store.parent / "alone", 1).embeds(Batch([groups[i] for i in order]))
        got = torch.cat([torch.from_numpy(row) for row in rows])
        torch.testing.assert_close(got, expected[0], atol=OTHER_ROWS, rtol=0)


def stop_in_the_middle(model, store, reached):
    trunk = build_trunk(model, "base", 2, store, 1)
    model.layers[0].register_forward_pre_hook(lambda *_: (reached.set(), time.sleep(60)))
    trunk.embeds(Batch(group_texts(TEXTS, 1000)))


def test_a_killed_job_holds_up_no_other(model, pack, store):
    torch.set_num_threads(1)
    context = multiprocessing.get_context("fork")
    reached = context.Event()
    job = context.Process(target=stop_in_the_middle, args=(model, store, reached))
    job.start()
    assert reached.wait(60)
    os.kill(job.pid, signal.SIGKILL)
    job.join()
    trunk = build_trunk(model, "base", 2, store, 1)
    passes = counted(model)
    trunk.embeds(pack)
    assert passes == [TOKENS]


def test_a_file_system_without_locks(model, pack, store, monkeypatch):
    def lockf(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    trunk = build_trunk(model, "base", 2, store, 1)
    passes = counted(model)
    trunk.embeds(pack)
    trunk.embeds(pack)
    assert passes == [TOKENS]


def test_a_store_that_cannot_be_written_to(model, pack, store, capsys):
    store.write_text("a file where the folder should be")
    trunk = build_trunk(model, "base", 2, store, 1)
    passes = counted(model)
    trunk.embeds(pack)
    trunk.embeds(pack)
    assert passes == [TOKENS] * 2
    assert capsys.readouterr().out.count("computed and not kept") == 1


@pytest.mark.parametrize(("layers", "gigabytes"), [(0, 1), (2, 0)])
def test_nothing_to_gain(model, store, layers, gigabytes):
    assert build_trunk(model, "base", layers, store, gigabytes) is None


def test_a_model_that_computes_padded_rows_has_no_trunk(store):
    assert build_trunk(build(FAMILIES["llama"]), "base", 2, store, 1) is None


def test_a_model_of_another_build_has_no_trunk(store, capsys):
    config = GPT2Config(vocab_size=120, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)
    model = AutoModel.from_config(copy.deepcopy(config)).eval()
    model.config._attn_implementation = trunks.PACKED
    assert build_trunk(model, "base", 1, store, 1) is None
    assert "does not come apart at a block (its blocks or its last norm have a name" in capsys.readouterr().out


def test_a_model_that_does_more_than_its_blocks_has_no_trunk(model, store, capsys, monkeypatch):
    monkeypatch.setattr(trunks, "TESTED", set())

    def doubled(module, args, output):
        output.last_hidden_state *= 2
        return output

    model.register_forward_hook(doubled)
    assert build_trunk(model, "base", 2, store, 1) is None
    assert "(in two parts it computes other states than as a whole (by " in capsys.readouterr().out


def test_training_mode_is_left_as_it_is(model, store, monkeypatch):
    monkeypatch.setattr(trunks, "TESTED", set())
    assert build_trunk(model.train(), "base", 2, store, 1)
    assert all(module.training for module in model.modules())
    assert not store.exists()  # nothing is kept of what was tried
