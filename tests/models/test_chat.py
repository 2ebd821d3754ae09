"""The token contract: BOS, EOS and template, for Gemma-, Llama- and Qwen-style tokenizers."""

import contextlib
import json

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, GemmaTokenizer, LlamaConfig, LlamaTokenizer, T5Config

from conftest import GEMMA, LLAMA, QUESTION_ANSWER, build_tokenizer
from rmtransfer.kit.errors import StudyError
from rmtransfer.models import chat
from rmtransfer.texts.selection import Reading

PROMPT = [{"role": "user", "content": "Where?"}]
ANSWER = [{"role": "assistant", "content": "Here."}]


@pytest.mark.parametrize(
    ("family", "bos", "end"),
    [
        ("gemma", ["<bos>"], "<end_of_turn>\n"),
        ("llama", ["<|begin_of_text|>"], "<|eot_id|>"),
        ("qwen", [], "<|im_end|>\n"),
    ],
)
def test_exactly_the_documented_bos_and_end(tokenizers, family, bos, end):
    tokenizer = tokenizers[family]
    ids = chat.encode_answer(tokenizer, PROMPT, ANSWER)
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert tokens[: len(bos)] == bos
    assert [t for t in tokens if t == tokenizer.bos_token] == bos
    assert tokenizer.decode(ids).endswith("Here." + end)  # nothing after what the template renders
    assert ids == tokenizer.apply_chat_template([*PROMPT, *ANSWER], tokenize=True)["input_ids"]


def test_bos_is_added_where_the_template_forgets_it():
    tokenizer = build_tokenizer("gemma")
    tokenizer.chat_template = tokenizer.chat_template.replace("{{ bos_token }}", "")
    ids = chat.encode(tokenizer, PROMPT)
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id


def test_a_template_with_two_bos_is_refused():
    tokenizer = build_tokenizer("llama")
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    with pytest.raises(StudyError, match="two BOS"):
        chat.encode(tokenizer, PROMPT)


def test_prompt_is_a_prefix_of_prompt_with_answer(tokenizers, family):
    tokenizer = tokenizers[family]
    prompt = chat.encode(tokenizer, PROMPT, add_generation_prompt=True)
    assert chat.encode_answer(tokenizer, PROMPT, ANSWER)[: len(prompt)] == prompt


def test_question_answer_template_ends_with_eos_and_keeps_every_turn():
    tokenizer = build_tokenizer("gemma")
    tokenizer.chat_template = QUESTION_ANSWER
    system = [{"role": "system", "content": "Be brief."}]
    text = tokenizer.decode(chat.encode_answer(tokenizer, system + PROMPT, ANSWER))
    assert text == "<bos>Be brief.\n\nQuestion: Where?\n\nAnswer: Here.<eos>"


@pytest.mark.parametrize(
    ("family", "stop", "marker"),
    [
        ("gemma", "<end_of_turn>", "user"),
        ("llama", "<|eot_id|>", "user"),
        ("qwen", "<|im_end|>", "user"),
    ],
)
def test_turn_end_finds_the_stop_tokens(tokenizers, family, stop, marker):
    stops, between = chat.turn_end(tokenizers[family])
    assert tokenizers[family].convert_tokens_to_ids(stop) in stops
    assert tokenizers[family].eos_token_id in stops
    assert marker in between


def gemma_class(tokenizer_class, **options):
    """A tokenizer of a class that builds its own backend from a vocabulary, as Gemma's and Llama 2's do."""
    model = json.loads(build_tokenizer("gemma").backend_tokenizer.to_str())["model"]
    vocabulary = {**model["vocab"], "<unk>": len(model["vocab"])}
    merges = [tuple(merge) for merge in model["merges"]]
    tokens = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    return tokenizer_class(vocab=vocabulary, merges=merges, **tokens, chat_template=GEMMA, **options)


def adding_eos(family):
    tokenizer = build_tokenizer(family)
    eos = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {eos}", special_tokens=[(eos, tokenizer.eos_token_id)]
    )
    return tokenizer


ADD = {"add_bos_token": True, "add_eos_token": True}
TOKENIZERS = {
    "gemma": lambda: build_tokenizer("gemma"),
    "llama": lambda: build_tokenizer("llama"),
    "qwen": lambda: build_tokenizer("qwen"),
    "qwen, with EOS": lambda: adding_eos("qwen"),
    "Gemma's class": lambda: gemma_class(GemmaTokenizer, add_bos_token=True),
    "Gemma's class, with EOS": lambda: gemma_class(GemmaTokenizer, **ADD),
    "Gemma's class, without BOS": lambda: gemma_class(GemmaTokenizer, add_bos_token=False),
    "Llama 2's class": lambda: gemma_class(LlamaTokenizer, add_bos_token=True),
}


@pytest.mark.parametrize("writes_bos", [True, False])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_reward_models_tokenizer_reads_rendered_text_as_training_did(tmp_path, kind, writes_bos):
    tokenizer = TOKENIZERS[kind]()
    if not writes_bos:
        tokenizer.chat_template = tokenizer.chat_template.replace("{{ bos_token }}", "")
    conversation = [*PROMPT, *ANSWER]
    expected, ordinary = chat.encode(tokenizer, conversation), tokenizer("Here.")["input_ids"]
    chat.save_reward_tokenizer(tokenizer, tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert type(saved) is type(tokenizer)
    assert saved(saved.apply_chat_template(conversation, tokenize=False))["input_ids"] == expected
    assert chat.encode(saved, conversation) == expected
    assert chat.encode(saved, PROMPT, add_generation_prompt=True) == chat.encode(
        tokenizer, PROMPT, add_generation_prompt=True
    )
    assert tokenizer("Here.")["input_ids"] == ordinary  # the one in memory goes on as it was

    again = tmp_path / "again"  # a reward model that is trained on
    chat.save_reward_tokenizer(saved, again)
    assert (again / "tokenizer.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("writes_bos", [True, False])
def test_the_saved_config_agrees_with_the_post_processor(tmp_path, writes_bos):
    """Where add_bos_token decides, as in transformers 4."""
    tokenizer = gemma_class(GemmaTokenizer, **ADD)
    if not writes_bos:
        tokenizer.chat_template = tokenizer.chat_template.replace("{{ bos_token }}", "")
    chat.save_reward_tokenizer(tokenizer, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (config["add_bos_token"], config["add_eos_token"]) == (not writes_bos, False)
    assert config["bos_token"] == "<bos>"


def test_turn_end_of_a_plain_text_template():
    tokenizer = build_tokenizer("gemma")
    tokenizer.chat_template = QUESTION_ANSWER
    assert chat.turn_end(tokenizer) == ([tokenizer.eos_token_id], "Question:")


def test_no_template_is_an_error_not_a_default(tmp_path):
    tokenizer = build_tokenizer("qwen")
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(StudyError, match=r"no chat template; write one there .*, or name another model$"):
        chat.load_tokenizer(tmp_path)


def reader(**tokenizers):
    return chat.row_reader({f"base_models.{name}": tokenizer for name, tokenizer in tokenizers.items()})


def with_template(family, template):
    tokenizer = build_tokenizer(family)
    tokenizer.chat_template = template
    return tokenizer


def test_a_row_is_as_long_as_its_longer_side_under_the_hungriest_tokenizer(tokenizers):
    row = {"prompt": PROMPT, "chosen": ANSWER, "rejected": [{"role": "assistant", "content": "Here. " * 9}]}
    expected = max(len(chat.encode_answer(tokenizer, PROMPT, row["rejected"])) for tokenizer in tokenizers.values())
    assert reader(**tokenizers)(row) == Reading(expected)


NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role here') }}{% endif %}" + LLAMA
ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + LLAMA
)
SYSTEM = [{"role": "system", "content": "Be brief."}]
OTHER = [{"role": "assistant", "content": "There."}]


@pytest.mark.parametrize(
    ("template", "prompt", "words"),
    [
        (NO_SYSTEM, SYSTEM + PROMPT, "no system role here"),
        (ALTERNATING, PROMPT + PROMPT, "roles must alternate"),
        ("{{ messages[0]['content'] + 1 }}", PROMPT, "can only concatenate str"),
        ("{{ messages[7]['content'] }}", PROMPT, "has no element 7"),
        ("{% for m in messages %}{% include 'other' %}{% endfor %}", PROMPT, "no loader"),
        ("{% for m in messages %}", PROMPT, "Unexpected end of template"),
        ("{{ bos_token }}" + LLAMA, PROMPT, "two BOS tokens stand in front"),
    ],
)
def test_whatever_a_template_raises_names_base_and_reason(template, prompt, words):
    row = {"id": "s1", "prompt": prompt, "chosen": ANSWER, "rejected": OTHER}
    reading = reader(plain=build_tokenizer("qwen"), mine=with_template("llama", template))(row)
    assert reading.refused.startswith("the chat template of base_models.mine refuses it: ")
    assert words in reading.refused
    instruction = {"id": "s1", "prompt": prompt}
    assert words in reader(mine=with_template("llama", template))(instruction).refused
    with pytest.raises(chat.RefusalError, match=r"the chat template (refuses|renders) row 's1'"):
        chat.encode_answer(with_template("llama", template), prompt, ANSWER, "row 's1'")


THINKING = LLAMA.replace("m['content'] | trim", "m['content'].split('</think>')[-1] | trim")


@pytest.mark.parametrize(
    ("template", "chosen", "rejected"),
    [
        (THINKING, "<think>Long.</think>Yes.", "<think>Short.</think>Yes."),
        (LLAMA, "Yes.", "Yes.\u200a"),  # trimmed, as Jinja trims, though not alike
    ],
)
def test_two_sides_that_are_one_input_are_seen(template, chosen, rejected):
    sides = {
        side: [{"role": "assistant", "content": text}] for side, text in (("chosen", chosen), ("rejected", rejected))
    }
    reading = reader(mine=with_template("llama", template))({"prompt": PROMPT, **sides})
    assert "are the same" in reading.alike
    assert "to base_models.mine" in reading.alike
    different = with_template("llama", template.replace(" | trim", "").replace(".split('</think>')[-1]", ""))
    assert reader(mine=different)({"prompt": PROMPT, **sides}).alike is None


def test_a_template_is_tried_with_every_shape_of_conversation():
    assert chat.probe_template(build_tokenizer("gemma"), "k") == {"system": "rendered", "turns": "rendered"}
    assert chat.probe_template(with_template("llama", NO_SYSTEM), "k")["system"] == "no system role here"
    ignoring = LLAMA.replace("in messages %}", "in messages if m['role'] != 'system' %}")
    assert chat.probe_template(with_template("llama", ignoring), "k")["system"] == "ignored"
    single = "{% if messages | length > 2 %}{{ raise_exception('one turn') }}{% endif %}" + LLAMA
    assert chat.probe_template(with_template("llama", single), "k") == {"system": "one turn", "turns": "one turn"}
    quiet = LLAMA.replace("m['content'] |", "m['content'] | lower |")
    assert chat.probe_template(with_template("llama", quiet), "k") == {"system": "rendered", "turns": "rendered"}
    stops, between = chat.turn_end(with_template("llama", single))
    assert stops == [build_tokenizer("llama").eos_token_id]
    assert between == ""


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ messages[0]['content'] }}", "leaves out its answer"),
        ("{{ raise_exception('never') }}", "refuses a question with its answer: never"),
        ("{{ bos_token }}" + LLAMA, "two BOS"),
        (LLAMA + "{{ messages[0].items }}", "address in memory"),
        (LLAMA + "{% if messages[0]['role'] == 'system' %}{{ messages[0].items }}{% endif %}", "address in memory"),
    ],
)
def test_a_template_of_no_use_is_refused_when_its_model_is_brought_in(template, words):
    with pytest.raises(
        StudyError, match=rf"base_models\.m: .*{words}.*; name another .* base_models\.m\.chat_template"
    ):
        chat.probe_template(with_template("llama", template), "base_models.m")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"rag": LLAMA, "tool_use": LLAMA}, "chat templates called rag, tool_use and none called default"),
        (LLAMA + "{{ [1, 2] | random }}", "random numbers"),
        (LLAMA + "{{ [[1, 2]] | map('random') | list }}", "random numbers"),
        ("{% set how = 'random' %}" + LLAMA + "{{ [[1, 2]] | map(how) | list }}", "random numbers"),
        (LLAMA + "{{ lipsum(1) }}", "random numbers"),
        (LLAMA + "{{ strftime_now('%d') ", "no Jinja: line 5: unexpected end of template"),
    ],
)
def test_a_template_that_cannot_be_settled_is_refused(template, words):
    with pytest.raises(StudyError, match=rf"^m: it.* {words}.*; name a Jinja file in m\.chat_template"):
        chat.settle_template(with_template("llama", template), "m: it", "m")


def test_of_templates_by_name_the_default_renders():
    tokenizer = with_template("llama", {"default": LLAMA, "rag": GEMMA})
    chat.settle_template(tokenizer, "m", "m")
    assert chat.encode(tokenizer, PROMPT) == chat.encode(build_tokenizer("llama"), PROMPT)


@pytest.mark.parametrize("encodes", [True, False])
def test_an_eos_that_a_tokenizer_adds_is_missed_by_an_encoder_decoder_alone(encodes):
    """T5's classifier reads the state there; whether a decoder's text ends with one its template decides."""
    tokenizer = with_template("qwen", "{% for m in messages %}{{ m['content'] }}{% endfor %}")
    eos = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {eos}", special_tokens=[(eos, tokenizer.eos_token_id)]
    )
    config = T5Config() if encodes else LlamaConfig()
    with pytest.raises(StudyError, match=r"^m: the chat template writes no") if encodes else contextlib.nullcontext():
        chat.check_special_tokens(tokenizer, config, "m")
