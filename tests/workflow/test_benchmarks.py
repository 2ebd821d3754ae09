"""What benchmarks count and write; not how fast anything is."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from benchmarks import common, flops, gpu, growth, scoring_speed, where_time_goes
from benchmarks.flops import Shape, Work
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, LlamaConfig, Trainer

from rmtransfer.models.packing import group_of

SHAPE = Shape([10, 20], 3, 100)
# Ten tokens that both begin with, then one and two of their own.
PAIR = ([*range(1, 11), 20], [*range(1, 11), 30, 31])


@pytest.fixture(scope="module")
def llama():
    return LlamaConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        vocab_size=100,
        attn_implementation="eager",
    )


def test_a_shape_is_counted_from_the_layers_of_a_model(llama):
    # queries 8 x 8, keys and values 8 x 4 each, output 8 x 8, three of 8 x 16
    assert flops.shape_of(llama) == Shape([64 + 2 * 32 + 64 + 3 * 128] * 3, 8, 800)


@pytest.mark.parametrize(("frozen", "embeddings"), [(0, True), (0, False), (2, True), (2, False)])
def test_operations_of_padded_batches_are_those_that_torch_counts(llama, frozen, embeddings):
    model = AutoModel.from_config(llama, attn_implementation="eager").train()
    model.embed_tokens.requires_grad_(embeddings)
    for block in model.layers[:frozen]:
        block.requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        loss = model(input_ids=torch.ones(2, 5, dtype=torch.long)).last_hidden_state.sum()
    shape, work = flops.shape_of(llama), flops.of_padded([[[1] * 5, [1] * 3]])
    forward = counter.get_total_flops()
    assert shape.forward(work) == forward
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    assert shape.training(work, frozen, embeddings=embeddings) == forward + counter.get_total_flops()


def test_a_tail_of_a_group_looks_at_the_prefix_and_at_itself():
    assert flops.of_group(group_of([[1, 2, 3, 4, 5], [1, 2, 3, 6]])) == Work(3 + 2 + 1, 6 + (6 + 3) + (3 + 1))


def test_padding_is_computed_and_looked_at():
    assert flops.of_padded([[[1, 2, 3], [4]], [[5, 6]]]) == Work(6 + 2, 2 * 9 + 4)


def test_each_decoding_step_looks_at_one_token_more():
    assert flops.of_decoding(4, 3) == Work(3, 5 + 6 + 7)


def test_activations_computed_twice_cost_one_more_forward_pass_where_there_is_a_gradient():
    work = Work(4, 10)
    first, second = SHAPE.forward(work, 0, 1), SHAPE.forward(work, 1)
    assert (first, second) == (2 * 10 * 4 + 4 * 3 * 10, 2 * 20 * 4 + 4 * 3 * 10)
    assert SHAPE.training(work, 1, embeddings=False, recomputed=True) == first + 4 * second
    assert SHAPE.training(work, 1, embeddings=True, recomputed=True) == 3 * first + 4 * 3 * 10 + 4 * second


def test_models_that_score_share_frozen_blocks_and_beginnings():
    stage = where_time_goes.scoring_stage("scoring", ("score",), SHAPE, [[*PAIR, PAIR[0]]], 3, 1, 512)
    ours = Work(13, 55 + (10 + 1) + (20 + 3))
    assert (stage.real, stage.computed) == (3 * (11 + 12 + 11), 3 * 13)
    assert stage.ours == SHAPE.forward(ours, 0, 1) + 3 * SHAPE.forward(ours, 1)
    assert stage.stock == 3 * SHAPE.forward(Work(36, 3 * 144))


def test_a_base_computes_what_is_above_the_blocks_that_its_reward_models_have_computed():
    stage = where_time_goes.base_stage("states", SHAPE, [PAIR], 1, 512)
    assert (stage.real, stage.computed) == (11 + 12, 13)
    assert stage.ours == SHAPE.forward(Work(13, 55 + (10 + 1) + (20 + 3)), 1)
    assert stage.stock == SHAPE.forward(Work(24, 2 * 144))


def test_a_likelihood_costs_a_row_of_logits_for_each_token_of_an_answer():
    answers = [(10, tuple(text)) for text in PAIR]
    base = where_time_goes.base_stage("states", SHAPE, [PAIR], 1, 512)
    stage = where_time_goes.likelihood_stage(SHAPE, [[*answers, answers[0]]], 1, 512)
    assert stage.ours == base.ours + 2 * 100 * (1 + 2)
    assert stage.stock == SHAPE.forward(Work(36, 3 * 144)) + 2 * 100 * 36


@pytest.mark.parametrize("embeddings", [False, True])
def test_trainings_share_what_frozen_blocks_make_of_a_pair(embeddings):
    recipe = SimpleNamespace(frozen_layers=1, freeze_embeddings=not embeddings, epochs=2)
    stage = where_time_goes.training_stage(SHAPE, [[PAIR], [PAIR]], recipe, [0, 1, 2])
    ours, padded, passes = Work(13, 55 + 11 + 23), Work(24, 2 * 144), 2 * 2 * 3
    assert (stage.real, stage.computed) == (passes * 23, passes * 13)
    below, above = SHAPE.forward(ours, 0, 1), SHAPE.forward(ours, 1)
    assert stage.ours == (
        passes * (2 * below + 4 * 3 * ours.looks + 3 * above) if embeddings else below + passes * 3 * above
    )
    assert stage.stock == passes * SHAPE.training(padded, 1, embeddings=embeddings, recomputed=True)


def test_a_prompt_is_read_once_for_all_of_its_answers():
    stage = where_time_goes.sampling_stage(SHAPE, [[[1, 2, 3, 4]]], samples=2, steps=3, budget=512)
    projected = 2 * 100 * 3 * 2
    assert (stage.real, stage.computed) == (2 * (4 + 2), 3 + 2 * 3)
    assert stage.ours == SHAPE.forward(Work(9, 9 + 2 * (4 + 5 + 6))) + projected
    assert stage.stock == SHAPE.forward(Work(12, 2 * (16 + 5 + 6))) + projected


def test_seconds_of_work_and_of_starting_up_are_read_from_a_log(tmp_path):
    (tmp_path / "score").mkdir()
    (tmp_path / "score/en.log").write_text(
        "10:00:00 [score en] started\n"
        "10:00:12 [score en] scoring en: 50/100 tokens (5.0 a second, about 10 s left)\n"
        "10:00:22 [score en] scoring en: 100/100 tokens (10.0 a second, 15.0 s)\n"
        "10:00:24 took 24.0 s, 20.0 CPU s, 1500 MB at most\n"
    )
    line = where_time_goes.times_of(tmp_path).loc["score"]
    assert line.to_dict() == {
        "jobs": 1,
        "seconds": 24,
        "CPU s": 20,
        "work": 15,
        "start": 7,
        "other": 2,
        "max_rss_MB": 1500,
    }


def test_tokens_of_each_contestant():
    texts = [*PAIR, *([40 + i] * 2 for i in range(7))]
    assert scoring_speed.computed_tokens(texts, 16) == {
        "packs": 13 + 7 * 2,
        "sorted": 12 + 11 + 7 * 2,
        "reward-bench": 8 * 12 + 2,
    }


def test_contestants_take_turns_and_every_other_round_is_reversed():
    order = []
    measured = common.in_turns({name: lambda name=name: order.append(name) for name in "abc"}, 3)
    assert "".join(order) == "abccbaabc"
    assert {name: len(run.seconds) for name, run in measured.items()} == {"a": 3, "b": 3, "c": 3}


def test_the_exponent_of_growth():
    assert growth.exponent([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2)


EMPTY = "Typed.\n\n<!-- blocks:begin -->\n<!-- blocks:end -->\n\nTyped too.\n"


def block(gain: str, row: str = "x") -> str:
    return common.render_block(
        common.Machine("", "commit 1"),
        "python",
        [common.Gain("scoring", "a peer", gain)],
        [common.Table([{"a": row, "b": "2"}])],
    )


def test_a_machines_block_is_replaced_and_the_rest_stays():
    text = common.with_block(EMPTY, "scoring_speed", "machine B", block("1.5"))
    text = common.with_block(text, "growth", "machine A", block("1.6"))
    text = common.with_block(text, "scoring_speed", "machine A", block("1.7"))
    again = common.with_block(text, "scoring_speed", "machine B", block("1.8", "y"))
    assert text.startswith("Typed.\n")
    assert again.endswith("Typed too.\n")
    assert again == text.replace("1.5", "1.8").replace(
        "| x | 2 |\n<!-- scoring_speed on machine B: end", "| y | 2 |\n<!-- scoring_speed on machine B: end"
    )
    assert [again.index(part) for part in ("machine A", "1.7", "1.6", "machine B", "1.8")] == sorted(
        again.index(part) for part in ("machine A", "1.7", "1.6", "machine B", "1.8")
    )
    assert "(`gpu`)" in again
    assert "(`growth`)" not in again


def test_the_readme_gets_the_gains_of_each_machine():
    text = common.with_block(EMPTY, "scoring_speed", "machine B", block("1.5"))
    text = common.with_block(text, "growth", "machine A", block("1.6"))
    readme = "a\n<!-- speed:begin -->\nold\n<!-- speed:end -->\nb\n"
    filled = common.with_figures(readme, text)
    assert "old" not in filled
    assert "machine A:\n\n| what | against |" in filled
    assert filled.index("machine A") < filled.index("| scoring | a peer | 1.6 |  |") < filled.index("machine B")
    assert common.with_figures(filled, text) == filled
    with pytest.raises(SystemExit, match="speed:begin"):
        common.with_figures("no marks", text)


def test_the_readmes_figures_are_the_measured_ones():
    readme = common.README.read_text(encoding="utf-8")
    assert common.with_figures(readme, common.MEASURED.read_text(encoding="utf-8")) == readme


def test_the_gpu_benchmark_runs_on_a_tiny_model(monkeypatch, capsys):
    def here(module, arguments, threads):
        monkeypatch.setattr(sys, "argv", ["gpu", *map(str, arguments)])
        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "train", Trainer.train)  # the benchmark replaces it
            gpu.main()
        return common.Finished(0, 0, json.loads(capsys.readouterr().out.splitlines()[-1]))

    monkeypatch.setattr(common, "in_new_process", here)
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--tiny", "--threads", "1"])
    gpu.main()
    printed = capsys.readouterr().out
    assert "| scoring, tiny | the card's matrix products |" in printed
    assert "| training, tiny | the card's matrix products |" in printed


def test_the_gpu_benchmark_says_that_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit, match="no CUDA device"):
        gpu.main()
