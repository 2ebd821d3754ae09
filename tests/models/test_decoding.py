"""One loop for all that models write: each prompt gets its own answer, whatever stands beside it."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, LogitsProcessor, MptConfig

from decoders import widen
from rmtransfer.models.decoding import DECODING_FACTOR, decode, decoding_batches

PROMPTS = [[7, 8, 9], [20] * 12, [30, 31], [40, 41, 42, 43, 44], [50]]
LIMITS = [4, 9, 1, 6, 9]


def answers(model, batches, *, limits=LIMITS, stops=(), **more) -> dict[int, list[int]]:
    pad = model.config.get_text_config().pad_token_id
    found: dict[int, list[int]] = {}
    for batch in decode(model, PROMPTS, limits, batches, pad=pad, stops=stops, **more):
        assert not found.keys() & dict(batch).keys()
        found.update(batch)
    return found


@pytest.fixture(scope="module")
def model(bases):
    return AutoModelForCausalLM.from_pretrained(bases["llama"], dtype=torch.float32).eval()


def step_by_step(model, prompt, limit, stops=()) -> list[int]:
    """Token by token with the highest logit."""
    said: list[int] = []
    while len(said) < limit and not (said and said[-1] in stops):
        with torch.inference_mode():
            said.append(model(torch.tensor([prompt + said])).logits[0, -1].argmax().item())
    return said


@pytest.mark.parametrize("batches", [[range(5)], [[4, 2], [0], [1, 3]]])
def test_an_answer_is_that_of_the_prompt_alone_up_to_its_limit(model, batches):
    expected = [step_by_step(model, prompt, limit) for prompt, limit in zip(PROMPTS, LIMITS, strict=True)]
    assert answers(model, batches) == dict(enumerate(expected))
    assert len(set(map(tuple, expected))) == len(expected)


def test_an_answer_ends_with_its_stop_token_and_the_rest_is_padding(model):
    stop = step_by_step(model, PROMPTS[1], 3)[-1]
    pad = model.config.pad_token_id
    said = answers(model, [range(5)], stops=[stop])
    for i, (prompt, limit) in enumerate(zip(PROMPTS, LIMITS, strict=True)):
        expected = step_by_step(model, prompt, limit, [stop])
        assert said[i][: len(expected)] == expected
        assert set(said[i][len(expected) :]) <= {pad}
    assert stop in said[1][:3]


def test_processors_know_the_batch_and_where_answers_begin(model):
    """Each answers the number of its prompt, and then counts on."""

    class Counting(LogitsProcessor):
        def __init__(self, batch, prompt_length):
            self.batch, self.prompt_length = batch, prompt_length

        def __call__(self, input_ids, scores):
            tokens = torch.tensor([[i + 10 + input_ids.shape[1] - self.prompt_length] for i in self.batch])
            return torch.full_like(scores, -torch.inf).scatter_(1, tokens, 0.0)

    said = answers(model, [[3, 0], [1, 4, 2]], processors=lambda batch, length: [Counting(batch, length)])
    assert said == {i: list(range(i + 10, i + 10 + limit)) for i, limit in enumerate(LIMITS)}


def test_an_encoder_decoder_model_reads_right_padded_prompts(translators):
    folder = translators["opus"]  # its positions count from the first column
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    shared = {"stops": [tokenizer.eos_token_id], "decoder_start_token_id": model.config.decoder_start_token_id}
    together = answers(model, [range(5)], limits=[6] * 5, **shared)
    for i, prompt in enumerate(PROMPTS):
        ids = torch.tensor([prompt])
        alone = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, num_beams=1, do_sample=False
        )[0, 1:].tolist()
        assert together[i] == alone
    assert len(set(map(tuple, together.values()))) > 1


def test_batches_hold_more_than_a_forward_pass():
    batches = list(decoding_batches(PROMPTS, LIMITS, 11))
    assert batches == [[1, 3, 4, 0], [2]]  # 21 tokens the longest, and eight times the budget
    assert DECODING_FACTOR == 8


def test_a_prompt_that_several_answers_continue_is_read_once(model):
    """Three answers to each prompt: what is computed before the first new token, and what comes of it."""
    prompts = [prompt for prompt in PROMPTS[:2] for _ in range(3)]
    limits = [4] * len(prompts)
    tokens = []
    hook = model.model.layers[0].register_forward_pre_hook(
        lambda module, args, kwargs: tokens.append((args or (kwargs["hidden_states"],))[0].shape[:2].numel()),
        with_kwargs=True,
    )
    try:
        (said,) = decode(model, prompts, limits, [range(len(prompts))], pad=0, stops=())
    finally:
        hook.remove()
    assert tokens[:2] == [
        2 * (len(PROMPTS[1]) - 1),
        len(prompts),
    ]  # all but the last token of two prompts, then one each
    for i, answer in said:
        assert answer == step_by_step(model, prompts[i], 4)


def test_a_family_that_does_not_say_positions_reads_equal_prompts_as_often_as_they_stand_there():
    """MPT goes on otherwise from keys and values that are handed to it."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        MptConfig(vocab_size=99, d_model=32, n_layers=2, n_heads=2, max_seq_len=64, pad_token_id=0)
    ).eval()
    widen(model)
    prompts = [[5, 6, 7, 8, 9], [5, 6, 7, 8, 9], [11, 12, 13]]
    (found,) = decode(model, prompts, [6] * 3, [[0, 1, 2]], pad=0, stops=())
    assert [answer for _, answer in found] == [step_by_step(model, prompt, 6) for prompt in prompts]
