"""Every family of translation models is told its languages in its own way, and batches change nothing."""

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from rmtransfer.kit.errors import StudyError
from rmtransfer.translation.quality import CUT_OFF
from rmtransfer.translation.seq2seq import Seq2Seq
from rmtransfer.translation.structure import join_parts, split_text
from scripted_engine import MACHINE

TEXTS = [
    "What is the capital of France?",
    "Paris.",
    "The capital of France is Paris. One two",
    "프랑스의 수도는",
    "1. one",
]


def engine(folder, source="en", target="es", tokens=4096, **options):
    options = Seq2Seq.Options(**{"model": str(folder), "beams": 2, **options})
    return Seq2Seq(options, source, target, MACHINE._replace(tokens_per_batch=tokens))


def ask(one, texts=TEXTS):
    return {text: answer for batch in one.translate(texts) for text, answer in batch.items()}


@pytest.mark.parametrize("family", ["m2m100", "nllb", "madlad", "opus", "opus_many"])
def test_answers_are_those_of_the_text_alone(translators, family):
    """One by one, in batches, in another order: the same translations, one for each text."""
    together = ask(engine(translators[family]))
    assert set(together) == set(TEXTS)
    assert together == ask(engine(translators[family], tokens=1), TEXTS[::-1])
    assert len({answer.text for answer in together.values()}) > 1  # not the same whatever is asked


def reference(folder, prepare, **arguments):
    """Stock transformers on one text, as the model's card says."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    texts = []
    for text in TEXTS:
        inputs = tokenizer(prepare(tokenizer, text), return_tensors="pt")
        made = {k: v(tokenizer) if callable(v) else v for k, v in arguments.items()}
        limit = 3 * 16 * -(-inputs["input_ids"].shape[1] // 16) + 20
        out = model.generate(**inputs, num_beams=2, early_stopping=True, max_new_tokens=limit, **made)
        texts.append(tokenizer.decode(out[0, 2 if arguments else 1 :], skip_special_tokens=True).strip())
    return texts


def with_source(code):
    def prepare(tokenizer, text):
        tokenizer.src_lang = code
        return text

    return prepare


@pytest.mark.parametrize(
    ("family", "target", "prepare", "arguments"),
    [
        ("m2m100", "es", with_source("en"), {"forced_bos_token_id": lambda t: t.get_lang_id("es")}),
        ("nllb", "zh", with_source("eng_Latn"), {"forced_bos_token_id": lambda t: t.convert_tokens_to_ids("zho_Hans")}),
        ("madlad", "ko", lambda _, text: "<2ko> " + text, {}),
        ("opus_many", "it", lambda _, text: ">>ita<< " + text, {}),
        ("opus", "es", lambda _, text: text, {}),
    ],
)
def test_answers_are_those_of_stock_transformers(translators, family, target, prepare, arguments):
    ours = ask(engine(translators[family], target=target))
    assert [ours[text].text for text in TEXTS] == reference(translators[family], prepare, **arguments)


@pytest.mark.parametrize(("family", "other"), [("m2m100", "it"), ("nllb", "ko"), ("madlad", "zh"), ("opus_many", "it")])
def test_the_target_language_decides_the_answer(translators, family, other):
    one, two = ask(engine(translators[family])), ask(engine(translators[family], target=other))
    assert one != two


@pytest.mark.parametrize(
    ("family", "lacks"), [("m2m100", "tlh"), ("nllb", "fr"), ("madlad", "it"), ("opus_many", "ko")]
)
def test_a_language_that_the_model_lacks_is_named(translators, family, lacks):
    with pytest.raises(StudyError, match=f"does not know '{lacks}'.*codes.{lacks}.*translation.languages"):
        ask(engine(translators[family], target=lacks))


def test_a_code_of_ones_own(translators):
    assert ask(engine(translators["nllb"], target="yue", codes={"yue": "zho_Hans"})) == ask(
        engine(translators["nllb"], target="zh")
    )


def test_an_answer_that_never_ends_is_flagged(translators):
    """A model whose EOS is out of reach runs to the limit; one that ends is not flagged."""
    one = engine(translators["m2m100"])
    tokenizer, model = one._load()
    head = model.lm_head.register_forward_hook(
        lambda module, inputs, output: output.index_fill(-1, torch.tensor([tokenizer.eos_token_id]), -1e9)
    )
    assert {answer.flaws for answer in ask(one).values()} == {(CUT_OFF,)}
    head.remove()
    model.lm_head.register_forward_hook(
        lambda module, inputs, output: output.index_fill(-1, torch.tensor([tokenizer.eos_token_id]), 1e9)
    )
    assert {answer.flaws for answer in ask(one).values()} == {()}


def test_structure_survives_even_a_model_that_talks_nonsense(translators):
    text = "# What is it?\n\n1. Use `x = 1` or **see** https://a.org/b.\n\n```python\nprint(1)\n```\n"
    one = engine(translators["madlad"])
    parts = split_text(text, "en", one.splitting)
    prose = list(dict.fromkeys(p.text for p in parts if p.kind == "prose"))
    answers = ask(one, prose)
    whole = join_parts(parts, {p: answers[p].text.replace("`", "").replace("\n", " ") for p in prose}, "es")
    for span in ("`x = 1`", "https://a.org/b", "```python\nprint(1)\n```"):
        assert whole.count(span) == 1
    assert whole.startswith("# ")
    assert "\n\n1. " in whole


def test_what_decides_a_translation_is_in_the_scope(translators):
    key = engine(translators["nllb"]).scope.key
    assert key == engine(translators["nllb"], tokens=7).scope.key
    others = [
        engine(translators["nllb"], beams=3),
        engine(translators["m2m100"]),
        engine(translators["nllb"], target="it"),
        engine(translators["nllb"]).safer(),
        engine("facebook/x", revision="a" * 40),
        engine("facebook/x", revision="b" * 40),
        engine("facebook/x-{source}-{target}", revisions={"es": "a" * 40}),
        engine("facebook/x-{source}-{target}", revisions={"es": "b" * 40}),
    ]
    assert len({key, *(other.scope.key for other in others)}) == 1 + len(others)


def test_a_model_per_pair_is_found_by_its_languages(translators, tmp_path):
    (tmp_path / "opus-en-es").symlink_to(translators["opus"])
    assert ask(engine(tmp_path / "opus-{source}-{target}")) == ask(engine(translators["opus"]))


def test_what_is_no_translation_model_is_refused(bases, tmp_path):
    for folder in (bases["llama"], tmp_path):
        with pytest.raises(StudyError, match="does not load as an encoder-decoder model"):
            ask(engine(folder))
