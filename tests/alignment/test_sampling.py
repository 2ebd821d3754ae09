"""Gumbel sampling is exact top-k and top-p sampling, and answers depend on nothing but their own key."""

import functools
import json
import shutil
import sys
import types

import pytest
import torch
from scipy import stats
from transformers import AutoModelForCausalLM, TopKLogitsWarper, TopPLogitsWarper

from conftest import build_tokenizer
from rmtransfer.alignment import gumbel, sampling
from rmtransfer.kit.cores import Cores
from rmtransfer.kit.errors import StudyError
from rmtransfer.models import chat
from rmtransfer.texts.corpus import load_rows

OPTIONS = {"max_new_tokens": 6, "temperature": 1.0, "top_k": 50}
SAMPLES = 3
DRAWS = 40_000


@functools.cache
def noise_of(k: int) -> torch.Tensor:
    return torch.stack([gumbel.gumbel_noise(str(i), 1, k) for i in range(DRAWS)])


def drawn(logits: torch.Tensor, k: int, temperature: float, top_p: float = 1.0) -> torch.Tensor:
    """How often each token of a vocabulary is drawn."""
    processor = gumbel.GumbelTopK(noise_of(k), 7, temperature, top_p)
    tokens = processor(torch.zeros(DRAWS, 7), logits.repeat(DRAWS, 1)).argmax(-1)
    return torch.bincount(tokens, minlength=len(logits))


def test_gumbel_top_k_draws_from_the_top_k_softmax():
    counts = drawn(torch.tensor([2.0, 1.0, 0.0, -1.0, 0.5]), 3, 0.7)
    top = torch.tensor([2.0, 1.0, float("-inf"), float("-inf"), 0.5])
    torch.testing.assert_close(counts / DRAWS, torch.softmax(top / 0.7, -1), atol=0.01, rtol=0)


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.8, 0.9, 0.97, 1.0])
@pytest.mark.parametrize(("k", "temperature"), [(8, 1.0), (5, 0.7), (8, 2.0)])
def test_top_p_keeps_and_draws_what_transformers_does(k, temperature, top_p):
    logits = torch.tensor([0.3, 2.0, -1.0, 1.2, 0.0, -0.4, 1.9, -2.5])
    warped = TopPLogitsWarper(top_p)(None, TopKLogitsWarper(k)(None, logits[None] / temperature))[0]
    expected, kept = warped.softmax(-1), warped.isfinite()
    counts = drawn(logits, k, temperature, top_p)
    assert (counts > 0).tolist() == kept.tolist()
    if kept.sum() > 1:
        assert (
            stats.chisquare(counts[kept], DRAWS * expected[kept].double() / expected[kept].double().sum()).pvalue > 1e-4
        )


def test_probabilities_that_sum_to_top_p_exactly_are_enough():
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    for top_p, kept in ((0.5, [0]), (0.75, [0, 1]), (0.51, [0, 1]), (1e-6, [0])):
        assert drawn(logits, 4, 1.0, top_p).nonzero().flatten().tolist() == kept


def test_the_drawn_token_is_the_greedy_one():
    scores, noise = torch.tensor([[0.0, 5.0, 4.0, 3.0], [9.0, 1.0, 2.0, 8.0]]), torch.zeros(2, 2, 3)
    noise[:, 1] = torch.tensor([[0.0, 0.0, 2.5], [0.0, 0.0, 0.0]])  # the third of the top three overtakes: 3 + 2.5 > 5
    out = gumbel.GumbelTopK(noise, 5, 1.0)(torch.zeros(2, 6), scores)
    assert out.argmax(-1).tolist() == [3, 0]


def sample(policy, pairs, tmp_path, name="cache", budget=512, language="en", seed=0, cores=None, **changes):
    """Answers in one language; another name is another cache."""
    path = tmp_path / "out.parquet"
    run(policy, {language: pairs}, {language: path}, tmp_path / name, budget, seed, cores, **changes)
    return load_rows(path)


def run(policy, rows, outputs, cache, budget=512, seed=0, cores=None, samples=SAMPLES, **changes):
    sampling.sample_answers(
        policy,
        rows,
        {**OPTIONS, **changes},
        seed,
        outputs,
        cache,
        samples=samples,
        tokens_per_batch=budget,
        device="cpu",
        cores=cores,
    )


def test_answers_do_not_depend_on_the_batch(base, pairs, tmp_path):
    together = sample(base, pairs, tmp_path, "together", top_p=0.9)
    assert together == sample(base, pairs, tmp_path, "alone", budget=1, top_p=0.9)
    more = sample(base, pairs, tmp_path, "more", budget=64, top_p=0.9, samples=5)
    assert together == [row for row in more if row["sample"] < SAMPLES]
    assert [(r["id"], r["sample"]) for r in together] == [(p["id"], s) for p in pairs for s in range(SAMPLES)]


def test_answers_are_those_of_the_formula(base, pairs, tmp_path):
    """One answer at a time, the whole text read again for every token, by a stock model."""
    tokenizer = chat.load_tokenizer(base)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    stops, marker = chat.turn_end(tokenizer)
    for row in sample(base, pairs[:4], tmp_path):
        ids = chat.encode(tokenizer, row["prompt"], add_generation_prompt=True)
        noise = gumbel.gumbel_noise(f"0/en/{row['id']}/{row['sample']}", 6, 50)
        new: list[int] = []
        while len(new) < 6 and not set(new) & set(stops):
            with torch.inference_mode():
                values, tokens = model(torch.tensor([ids + new])).logits[0, -1].topk(50)
            new.append(int(tokens[(values + noise[len(new)]).argmax()]))
        text, finished = sampling.read_answer(tokenizer, new, stops, marker)
        assert (row["answer"][0]["content"], row["finished"]) == (text, finished)


def test_batches_side_by_side_give_the_same_answers(base, pairs, tmp_path):
    cores = Cores(tmp_path / "computing", 1, 4)
    assert sample(base, pairs, tmp_path, "four", budget=1, cores=cores) == sample(base, pairs, tmp_path, "one")


def test_samples_languages_and_seeds_differ(bases, pairs, tmp_path):
    first = sample(bases["llama"], pairs, tmp_path)
    assert len({r["answer"][0]["content"] for r in first if r["id"] == "r5"}) == SAMPLES
    assert sample(bases["llama"], pairs, tmp_path, seed=1) != first
    assert sample(bases["llama"], pairs, tmp_path, language="es") != first
    assert sample(bases["llama"], pairs, tmp_path, "again") == first


def test_low_temperature_and_little_top_p_are_greedy(bases, pairs, tmp_path):
    for options in ({"temperature": 1e-6}, {"top_p": 1e-6}):
        rows = sample(bases["qwen"], pairs[:2], tmp_path, **options)
        assert rows[0]["answer"] == rows[1]["answer"] == rows[2]["answer"]


def test_top_p_of_one_or_none_is_off(bases, pairs, tmp_path):
    plain = sample(bases["llama"], pairs, tmp_path, "plain")
    assert sample(bases["llama"], pairs, tmp_path, "one", top_p=1.0) == plain
    assert sample(bases["llama"], pairs, tmp_path, "none", top_p=None) == plain
    assert sample(bases["llama"], pairs, tmp_path, "half", top_p=0.5) != plain


def test_the_policys_own_generation_settings_do_not_count(bases, pairs, tmp_path):
    folder = tmp_path / "policy"
    shutil.copytree(bases["llama"], folder)
    own = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "top_k": 1, "do_sample": True, "min_new_tokens": 6}
    (folder / "generation_config.json").write_text(json.dumps(own))
    assert sample(folder, pairs, tmp_path, "own") == sample(bases["llama"], pairs, tmp_path, "none")


@pytest.fixture
def loads(monkeypatch):
    """Which policies were loaded."""
    found = []
    load = AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        sampling.AutoModelForCausalLM, "from_pretrained", lambda path, **more: found.append(path) or load(path, **more)
    )
    return found


def test_a_finished_language_is_sampled_once(bases, pairs, tmp_path, loads):
    policy, cache = bases["llama"], tmp_path / "cache"
    rows = {"en": pairs[:3], "es": pairs[3:5]}
    outputs = {language: tmp_path / f"{language}.parquet" for language in (*rows, "ko")}
    run(policy, rows, outputs, cache)
    assert len(loads) == 1  # for both
    first = {language: outputs[language].read_bytes() for language in rows}
    for language in rows:
        outputs[language].unlink()
    run(policy, rows, outputs, cache)
    assert len(loads) == 1
    assert {language: outputs[language].read_bytes() for language in rows} == first
    run(policy, {**rows, "ko": pairs[:1]}, outputs, cache)
    assert len(loads) == 2
    assert len(list(cache.iterdir())) == 3
    assert [row["id"] for row in load_rows(outputs["ko"])] == ["r0"] * SAMPLES


def test_whatever_decides_an_answer_makes_it_anew(bases, pairs, tmp_path, loads):
    changes = [
        {},
        {"temperature": 0.5},
        {"top_k": 5},
        {"top_p": 0.5},
        {"max_new_tokens": 5},
        {"seed": 1},
        {"samples": 2},
        {"language": "es"},
    ]
    for change in changes:
        sample(bases["llama"], pairs[:1], tmp_path, **change)
    sample(bases["qwen"], pairs[:1], tmp_path)
    sample(bases["llama"], pairs[1:2], tmp_path)
    assert len(loads) == len(list((tmp_path / "cache").iterdir())) == len(changes) + 2
    sample(bases["llama"], pairs[:1], tmp_path, top_p=1, best_of=[1, 2], budget=64)  # these decide nothing
    assert len(loads) == len(changes) + 2


def test_a_killed_job_goes_on(bases, pairs, tmp_path, monkeypatch):
    policy, cache = bases["llama"], tmp_path / "cache"
    rows = {"en": pairs[:3], "es": pairs[3:5]}
    outputs = {language: tmp_path / f"{language}.parquet" for language in rows}
    decode, decoded = sampling.decode, []

    def killed(model, prompts, *arguments, **options):
        if len(prompts) == 2 * SAMPLES:
            raise KeyboardInterrupt
        return decode(model, prompts, *arguments, **options)

    def counted(model, prompts, *arguments, **options):
        decoded.append(len(prompts))
        return decode(model, prompts, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(sampling, "decode", killed)
        with pytest.raises(KeyboardInterrupt):
            run(policy, rows, outputs, cache, budget=1)  # of one batch, so that each language is a round of its own
    monkeypatch.setattr(sampling, "decode", counted)
    run(policy, rows, outputs, cache, budget=1)
    assert set(decoded) == {2 * SAMPLES}
    whole = {language: tmp_path / f"whole_{language}.parquet" for language in rows}
    run(policy, rows, whole, tmp_path / "other")
    assert {k: load_rows(path) for k, path in outputs.items()} == {k: load_rows(path) for k, path in whole.items()}


def test_languages_that_fill_no_batch_alone_share_one(base, pairs, tmp_path, monkeypatch):
    rows = {"en": pairs[:3], "es": pairs[3:5], "ko": pairs[5:6]}
    outputs = {language: tmp_path / f"{language}.parquet" for language in rows}
    decode, batches = sampling.decode, []

    def counted(model, prompts, limits, these, **options):
        batches.extend(these := list(these))
        return decode(model, prompts, limits, these, **options)

    monkeypatch.setattr(sampling, "decode", counted)
    run(base, rows, outputs, tmp_path / "cache")
    assert [len(batch) for batch in batches] == [6 * SAMPLES]
    batches.clear()
    for language, texts in rows.items():
        assert sample(base, texts, tmp_path, "alone", language=language) == load_rows(outputs[language])
    assert [len(batch) for batch in batches] == [3 * SAMPLES, 2 * SAMPLES, SAMPLES]


def test_a_policy_without_a_template_is_refused(bases, pairs, tmp_path):
    folder = tmp_path / "policy"
    shutil.copytree(bases["llama"], folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(StudyError, match=r"the tokenizer has no chat template; write one there"):
        sample(folder, pairs, tmp_path)


def test_what_the_policy_cannot_read_is_refused(bases, pairs, tmp_path):
    with pytest.raises(StudyError, match=r"alignment.max_new_tokens \(500\): row 'r11' in en, with the longest answer"):
        sample(bases["llama"], pairs, tmp_path, max_new_tokens=500)


@pytest.mark.parametrize(
    ("said", "marker", "expected"),
    [
        ("Paris.<|eot_id|>", "", ("Paris.", True)),
        ("Paris.<|eot_id|><|end_of_text|><|end_of_text|>", "", ("Paris.", True)),
        ("Paris. Question: What", "Question:", ("Paris.", True)),
        ("Question: What", "Question:", ("", True)),
        ("<|eot_id|>", "", ("", True)),
        ("Paris. Quest", "Question:", ("Paris. Quest", False)),  # cut off within the marker
        ("The capital of", "", ("The capital of", False)),
        ("<|start_header_id|>The capital", "", ("The capital", False)),  # special, but no end
    ],
)
def test_an_answer_is_finished_where_it_ended_by_itself(said, marker, expected):
    tokenizer = build_tokenizer("llama")
    ids = tokenizer(said, add_special_tokens=False)["input_ids"]
    stops = tokenizer.convert_tokens_to_ids(["<|eot_id|>"])
    assert sampling.read_answer(tokenizer, ids, stops, marker) == expected


def says(monkeypatch, tokenizer, texts):
    """Has the policy give these texts as samples of every prompt."""
    stop = tokenizer.convert_tokens_to_ids("<|eot_id|>")
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]

    def decode(model, prompts, limits, batches, **options):
        for batch in batches:
            yield [(i, ids[i % len(ids)] + [stop] * (i % len(ids) > 0)) for i in batch]  # the first runs into the limit

    monkeypatch.setattr(sampling, "decode", decode)


def test_empty_and_unfinished_answers_are_kept_and_counted(bases, pairs, tmp_path, monkeypatch, capsys):
    english = "The sea looks blue because water absorbs red light and scatters the rest."
    spanish = "El mar se ve azul porque el agua absorbe la luz roja y dispersa el resto."
    says(monkeypatch, chat.load_tokenizer(bases["llama"]), [english, english, spanish, "", ""])
    rows = sample(bases["llama"], pairs, tmp_path, samples=5)
    assert [(r["answer"][0]["content"], r["finished"]) for r in rows[:5]] == [
        (english, False),
        (english, True),
        (spanish, True),
        ("", True),
        ("", True),
    ]
    assert sampling.count_answers(rows, "en", ["en", "es"]) == {
        "answers": 60,
        "empty": 24,
        "unfinished": 12,
        "duplicates": 24,
        "other_language": 12,
        "told": 36,
    }
    assert (
        "en: 60 answers: 24 empty, 12 unfinished, 24 like an earlier one to the same prompt, 12 of 36 whose language can be "
        "told in another" in capsys.readouterr().out
    )


class FakeVllm(types.ModuleType):
    """What of vLLM is called, with the calls on record; an answer is its prompt's last token, its seed and a stop token."""

    def __init__(self):
        super().__init__("vllm")
        self.models, self.asked = [], []

    def SamplingParams(self, **options):  # noqa: N802
        return types.SimpleNamespace(**options)

    def LLM(self, **options):  # noqa: N802
        self.models.append(options)

        def generate(prompts, params):
            self.asked += zip(prompts, params, strict=True)
            return [
                types.SimpleNamespace(
                    outputs=[
                        types.SimpleNamespace(
                            token_ids=(*([prompt["prompt_token_ids"][-1]] * (p.seed % 3)), *p.stop_token_ids[:1])
                        )
                    ]
                )
                for prompt, p in zip(prompts, params, strict=True)
            ]

        return types.SimpleNamespace(generate=generate)


def test_vllm_is_asked_for_the_same_distribution(base, pairs, tmp_path, monkeypatch, loads):
    vllm = FakeVllm()
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    rows = {"en": pairs[:3], "es": pairs[:1]}
    outputs = {language: tmp_path / f"{language}.parquet" for language in rows}
    options = {"engine": "vllm", "temperature": 0.7, "top_p": 0.9}
    run(base, rows, outputs, tmp_path / "cache", **options)
    tokenizer = chat.load_tokenizer(base)
    stops, marker = chat.turn_end(tokenizer)
    encoded = [chat.encode(tokenizer, row["prompt"], add_generation_prompt=True) for row in pairs[:3]]
    assert loads == []
    assert vllm.models == [
        {
            "model": str(base),
            "dtype": "float32",
            "max_model_len": len(encoded[2]) + 6,
            "generation_config": "vllm",
            "enable_prefix_caching": True,
        }
    ]
    assert [prompt["prompt_token_ids"] for prompt, _ in vllm.asked] == [
        ids for ids in [*encoded, encoded[0]] for _ in range(SAMPLES)
    ]
    seeds = [params.seed for _, params in vllm.asked]
    assert len(set(seeds)) == 4 * SAMPLES
    assert vars(vllm.asked[0][1]) == {
        "temperature": 0.7,
        "top_k": 50,
        "top_p": 0.9,
        "seed": seeds[0],
        "max_tokens": 6,
        "ignore_eos": True,
        "stop_token_ids": stops,
        "stop": [marker] if marker else None,
    }
    found = load_rows(outputs["en"])
    assert [(row["id"], row["sample"]) for row in found] == [(p["id"], s) for p in pairs[:3] for s in range(SAMPLES)]
    assert all(row["finished"] for row in found)
    run(base, rows, outputs, tmp_path / "cache", **options)
    assert len(vllm.models) == 1
    assert found == load_rows(outputs["en"])
    run(base, rows, outputs, tmp_path / "cache", **{**options, "engine": "transformers"})
    assert len(loads) == 1  # other answers


def test_that_vllm_is_not_installed_is_said(bases, pairs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(StudyError, match=r"alignment.engine: vllm cannot be imported .*or set engine: transformers"):
        sample(bases["llama"], pairs, tmp_path, engine="vllm")
