"""What counts as a verdict in a judge's reply."""

import pytest
from pydantic import ValidationError

from rmtransfer.scoring.judge import JudgeOptions
from rmtransfer.scoring.verdicts import FORMS, Reasoning, VerdictOptions, find_verdict, verdict_form
from rmtransfer.study.catalogue import JUDGE_PROTOCOLS, load


def verdict(reply: str, verdict="brackets", mode="pairwise", **more) -> str | None:
    form = verdict_form(verdict, mode)
    found = find_verdict(reply, form, Reasoning())
    options = JudgeOptions(kind="judge", mode=mode, path="x", verdict=verdict, **more)
    return None if found is None else load(JUDGE_PROTOCOLS, mode)(options, form).verdict(found)


FORM = 'Feedback: (write a feedback) [RESULT] (A or B)"'
PAIRWISE = {
    "brackets": {
        "**[[B]]**": "B",
        "[[A]] at first, but [[C]]": "C",
        "［［A］］": "A",
        "最终判断：【【B】】": "B",
        "[[Ａ]]": "A",
        "[[a]] [A] [[D]] [[A, B]]": None,
    },
    "prometheus": {
        "Feedback: A is clear, B is not. [RESULT] A": "A",
        "[RESULT] B\n": "B",
        "[Result] Response B": "B",
        "[RESULT: B]": "B",
        "**[RESULT]** **A**": "A",
        "[RESULT]\n\n(B)": "B",
        "[RESULT] b": "B",
        "반응 B가 더 좋습니다. ［RESULT］ B": "B",
        "回答A更好。[RESULT] A。": "A",
        "【RESULT】B": "B",
        f"{FORM} So: [RESULT] B": "B",
        FORM: None,
        "[RESULT] Both are good": None,
        "[RESULT] a draw": None,
        "A is better": None,
        "RESULT A": None,
    },
    "mr3": {
        '{"explanation": "B is wrong", "score": "Assistant A"}': "A",
        "{'explanation': '…', 'score': 'Assistant B'}": "B",
        '```json\n{"score": "assistant_b"}\n```': "B",
        "score: Assistant A": "A",
        '{"explanation": "…", "score": "B"}': "B",
        '{"score": "neither"}': None,
        '{"explanation": "Assistant A"}': None,
    },
    "json": {
        '{"winner": "A"}': "A",
        '{"reason": "…", "winner": "Response 2"}': "B",
        '{"winner": "model_a"}': "A",
        '{"better_answer": 1}': "A",
        '{"verdict": "tie"}': "C",
        "{“winner”: “A”}": None,
        '{"winner": "both"}': None,
    },
    "boxed": {
        r"\boxed{A}": "A",
        r"$\boxed{\text{B}}$": "B",
        r"\boxed{\textbf{Assistant B}}": "B",
        r"\boxed{1}": "A",
        r"\boxed{42}": None,
    },
    "label": {
        "**Reasoning:** …\n\n**Result:** A": "A",
        "Verdict: Response B.": "B",
        "Final verdict: **Assistant A** is better": "A",
        "Winner：B": "B",
        "Better answer: 2": "B",
        "Preference: tie": "C",
        "verdict: b": "B",
        "Result: A good answer, both of them": None,
        "The result is a mess": None,
    },
    "end": {
        "A": "A",
        "I prefer **Answer B**.": "B",
        "Response 2": "B",
        "b": "B",
        "Tie": "C",
        "Banana": None,
        "A is better": None,
    },
}
RATING = {
    "brackets": {
        "[[10]]": "10",
        "Not [[9]], rather [[5]].": "5",
        "［［７］］": "7",
        "[[7.5]]": "7.5",
        "[[ 7,5 ]]": "7.5",
        "［［７．５］］": "7.5",
        "[[٧٫٥]]": "٧.٥",
        "[[1.0]]": "1.0",
        "[[10.0]]": "10.0",
        "[[10.5]]": None,
        "[[0.9]]": None,
        "[[-5]]": None,
        "[[7.5.2]]": None,
        "[[5-7]]": None,
        "[[0]]": None,
        "[[11]]": None,
    },
    "prometheus": {
        "[RESULT] 4": "4",
        "[Result] Score: 2": "2",
        "[RESULT] 4/5": "4",
        "[RESULT] **4.5**": "4.5",
        "[RESULT] -4": None,
        "[RESULT] 4.5.2026": None,
        "[RESULT] (an integer)": None,
    },
    "mr3": {'{"explanation": "…", "score": 4}': "4", "'score': '4.5'": "4.5", '"score": "4,5"': "4.5", "score 4": None},
    "json": {'{"rating": 8}': "8", '{"score": "8"}': "8", '{"score": 88}': None, '{"score": -8}': None},
    "boxed": {r"\boxed{7}": "7", r"\boxed{\text{7}}": "7", r"\boxed{7.25}": "7.25", r"\boxed{-7}": None},
    "label": {
        "**Final rating:** 4/5": "4",
        "Score: 3 out of 5": "3",
        "Score: 3.5.": "3.5",
        "Score:\n- 3": "3",
        "Score: −3": None,
        "Rating: none": None,
    },
    "end": {
        "Clear and helpful.\n\n9": "9",
        "I give it 7/10.": "7",
        "**8**": "8",
        "8.5": "8.5",
        "-8": None,
        "In 2024 it was fine": None,
    },
}


@pytest.mark.parametrize(("form", "reply"), [(form, reply) for form, replies in PAIRWISE.items() for reply in replies])
def test_who_is_better_in_every_form(form, reply):
    assert verdict(reply, form) == PAIRWISE[form][reply]


@pytest.mark.parametrize(("form", "reply"), [(form, reply) for form, replies in RATING.items() for reply in replies])
def test_numbers_in_every_form(form, reply):
    assert verdict(reply, form, "rating") == RATING[form][reply]


def test_every_form_is_tried_in_every_mode():
    assert PAIRWISE.keys() == RATING.keys() == FORMS.keys()
    for patterns in FORMS.values():
        assert patterns.keys() == JUDGE_PROTOCOLS.keys()
        assert all(VerdictOptions(pattern=pattern) for pattern in patterns.values())


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("<think>Is it [[B]]?</think>No, the first one. [[A]]", "A"),
        ("<think>[[B]]</think>I cannot say.", None),
        ("Is it [[B]]? Yes.\n</think>\n\n[[A]]", "A"),  # the template has opened the block
        ("[[B]]</think>", None),
        ("<think>I have to end with [[A]] or [[B]].", None),
        ("\n<think>\n[[B]]\n", None),
        ("<THINKING>[[B]]</THINKING> [[A]]", "A"),
        ("<reasoning>[[B]]</reasoning> [[A]] <reasoning>or [[B]]?</reasoning>", "A"),
        ("[THINK][[B]][/THINK][[A]]", "A"),
        ("<|channel|>analysis<|message|>[[B]]<|end|><|start|>assistant<|channel|>final<|message|>[[A]]", "A"),
        ("<think>The answer says <think>x</think>, so [[B]]</think>[[A]]", "A"),
        ("Answer B leaves its <think> tag open. [[A]]", "A"),
        ("<seed:think>[[B]]</seed:think>[[A]]", "A"),
        ("◁think▷[[B]]◁/think▷[[A]]", "A"),
        ("<|START_THINKING|>[[B]]<|END_THINKING|>[[A]]", "A"),
        ("<|START_THINKING|>[[B]] or", None),
        ("<|begin_of_thought|>[[B]]<|end_of_thought|>[[A]]", "A"),
        ("<|begin_of_thought|>[[B]] or", None),
        ("<|channel|>analysis<|message|>I have to end with [[B]]", None),
    ],
)
def test_thoughts_hold_no_verdict(reply, expected):
    assert verdict(reply) == expected


@pytest.mark.parametrize(
    ("reply", "prompt", "unfinished"),
    [
        ("<think>The form is [[5]]. Now the answer: it is", "", True),
        ("<think>one</think>\n<think>[[B]], or", "", True),
        ("<|channel|>analysis<|message|>[[B]]", "", True),
        ("<think>Is it [[B]]?</think>", "", False),
        ("Answer B leaves its <think> tag open. [[A]]", "", False),
        ("", "", False),
        ("I have to end with [[A]] or [[B]]", "<|Assistant|><think>\n", True),
        ("Is it [[B]]?</think>[[A]]", "<|Assistant|><think>\n", False),
        ("[[A]]", "<|Assistant|><think>\n\n</think>\n\n", False),
    ],
)
def test_a_reply_may_stop_before_its_reasoning_ends(reply, prompt, unfinished):
    assert Reasoning().unfinished(reply, prompt) is unfinished


def test_a_study_names_other_tags_of_reasoning():
    own, form = Reasoning(["(plan)", "(/plan)"]), verdict_form("brackets", "pairwise")
    for known in (Reasoning(), own):
        assert find_verdict("<think>[[B]]</think>[[A]]", form, known) == "a"
    assert find_verdict("(plan)[[B]](/plan)I cannot say.", form, Reasoning()) == "b"
    assert find_verdict("(plan)[[B]](/plan)I cannot say.", form, own) is None
    assert (own.unfinished("(plan)[[B]], or"), own.among("[[B]](/plan)[[A]]")) == (True, True)


def test_a_scale_may_go_below_zero():
    assert verdict("[[-2.5]]", mode="rating", scale=[-3, 3]) == "-2.5"
    assert verdict("Score: −2", "label", "rating", scale=[-3, 3]) == "-2"


def test_a_pattern_of_ones_own():
    con_j = {"pattern": r'更好的回答"?\s*:\s*"?([12])'}
    assert verdict('{"原因": "…", "更好的回答": ２}', VerdictOptions(**con_j)) == "B"
    assert verdict('{"更好的回答"：1}', VerdictOptions(**con_j)) == "A"
    nemotron = VerdictOptions(pattern=r"\\boxed\{(\d)\}", first=[1, 2, 3], second=[4, 5, 6], tie=[])
    assert [verdict(rf"\boxed{{{n}}}", nemotron) for n in range(1, 8)] == [*"AAABBB", None]
    words = VerdictOptions(pattern=r"(?s)\A.*?winner is (\w+ \w+)", first=["Model one"], second=["model two"])
    assert verdict("The winner is  model  one", words) is None
    assert verdict("The winner is MODEL ONE. No, the winner is model two", words) == "A"  # the first match, if so asked


@pytest.mark.parametrize("said", ["0.9", "5.1", "-3", "1e9", "nan", "inf", "many", ""])
def test_what_is_no_number_on_the_scale(said):
    form = VerdictOptions(pattern=r"=(.*)")
    assert verdict(f"={said}", form, "rating", scale=[1, 5]) is None
    assert verdict("=5", form, "rating", scale=[1, 5]) == "5"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(A", "is no regular expression"),
        ("A", "has 0 groups"),
        ("(A)|(B)", "has 2 groups"),
        ("（A）(B)", "full-width"),
    ],
)
def test_a_pattern_that_cannot_be(pattern, message):
    with pytest.raises(ValidationError, match=message):
        VerdictOptions(pattern=pattern)
