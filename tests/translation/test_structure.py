"""Structure survives translation: what is protected, where sentences end, and that no character is lost or invented."""

import re
import time

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from rmtransfer.translation.structure import (
    Part,
    Splitting,
    has_prose,
    join_parts,
    mark_spans,
    protected_spans,
    same_spans,
    split_text,
)

LINES = Splitting("line", spans_inside=True, limit=500)
SENTENCES = Splitting("sentence", spans_inside=False, limit=500)
SENTENCES_SPANS = Splitting("sentence", spans_inside=True, limit=500)
LINES_BARE = Splitting("line", spans_inside=False, limit=500)
SETTINGS = [LINES, SENTENCES, SENTENCES_SPANS, LINES_BARE]
NAMES = ["lines-spans", "sentences", "sentences-spans", "lines"]
SMALL = [
    Splitting(unit, spans, limit) for unit in ("line", "sentence") for spans in (True, False) for limit in (1, 7, 40)
]

LETTER_OR_DIGIT = re.compile(r"[^\W_]")
LETTERLIKE = re.compile(r"[^\W\d_]")


def scrambled(text: str) -> str:
    """What a hostile engine makes of prose: not one letter or digit is left."""
    return LETTER_OR_DIGIT.sub("ж", text)


def engine(prose: str, splitting: Splitting) -> str:
    """Scrambles all that it may touch; spans inside the prose are marked for it, as for a real engine."""
    if not splitting.spans_inside:
        return scrambled(prose)
    return "".join(piece if protected else scrambled(piece) for piece, protected in mark_spans(prose))


def translated(text: str, language: str, splitting: Splitting, target: str = "es") -> str:
    """The text after the hostile engine."""
    parts = split_text(text, language, splitting)
    answers = {part.text: engine(part.text, splitting) for part in parts if part.kind == "prose"}
    return join_parts(parts, answers, target)


def expected(text: str, things: tuple[str, ...]) -> str:
    """The text with all scrambled but the given things, found one after the other."""
    done, rest = "", text
    for thing in things:
        before, found, rest = rest.partition(thing)
        assert found, f"the example lacks {thing!r}"
        done += scrambled(before) + thing
    return done + scrambled(rest)


def prose_in(text: str, language: str = "en", splitting: Splitting = SENTENCES) -> list[str]:
    return [part.text for part in split_text(text, language, splitting) if part.kind == "prose"]


# Each text with the things in it that must not change; everything else must be translated.
BLOCKS = {
    "backticks": ("Run:\n```py\nx = one\n```\nDone.", ("```py\nx = one\n```",)),
    "tildes": ("Run:\n~~~\nx = one\n~~~\nDone.", ("~~~\nx = one\n~~~",)),
    "nested fence": ("````md\n```py\nx\n```\nstill code\n````\nDone.", ("````md\n```py\nx\n```\nstill code\n````",)),
    "nested tildes": ("~~~~\n~~~\nx\n~~~\nstill code\n~~~~\nDone.", ("~~~~\n~~~\nx\n~~~\nstill code\n~~~~",)),
    "tildes in backticks": ("```\n~~~\nx\n```\nDone.", ("```\n~~~\nx\n```",)),
    "longer closing fence": ("```\nx\n`````\nDone.", ("```\nx\n`````",)),
    "info string closes nothing": ("```\nx\n```py\ny\n```\nDone.", ("```\nx\n```py\ny\n```",)),
    "empty fence": ("Run:\n```\n```\nDone.", ("```\n```",)),
    "unclosed fence": ("Run:\n```py\nx = one\n\nthe end", ("```py\nx = one\n\nthe end",)),
    "two fences": ("```\na\n```\nand then\n```\nb\n```\nDone.", ("```\na\n```", "```\nb\n```")),
    "quoted fence": ("> ```\n> some code\n> ```\n> Done.", ("> ```\n> some code\n> ```",)),
    "indented fence": ("- Run:\n\n  ```py\n  x = one\n  ```\n- Done.", ("```py\n  x = one\n  ```",)),
    "fence in the item's line": ("- ```py\n  some code\n  ```\n- Done.", ("```py\n  some code\n  ```",)),
    "Windows line ends": ("```\r\nsome code\r\n```\r\nDone.", ("```\r\nsome code\r\n```",)),
    "indented code": ("Run:\n\n    some code\n    more code\n\nDone.", ("    some code\n    more code",)),
    "code after a tab": ("Run:\n\n\tsome code\n\nDone.", ("\tsome code",)),
    "display formula": ("See $$a + b$$ there.", ("$$a + b$$",)),
    "display formula, lines": ("See\n$$\na + b\n$$\nthere.", ("$$\na + b\n$$",)),
    "bracket formula": ("See \\[a + b\\] there.", ("\\[a + b\\]",)),
    "environment": ("See\n\\begin{align}\nx &= y\n\\end{align}\nthere.", ("\\begin{align}\nx &= y\n\\end{align}",)),
    "text after a fence in a list": (
        "1. Install\n\n    ```sh\n    pip install x\n    ```\n\n    Then run it.",
        ("1.", "```sh\n    pip install x\n    ```"),
    ),
}
SPANS = {
    "inline code": ("Run `ls -l a1` now.", ("`ls -l a1`",)),
    "double backticks": ("Run ``a ` b`` now.", ("``a ` b``",)),
    "code twice": ("Run `ls` or `ls` now.", ("`ls`", "`ls`")),
    "code with a particle": ("`ls`를 실행하세요.", ("`ls`",)),
    "code with dollar": ("Run `$HOME/x.sh` now.", ("`$HOME/x.sh`",)),
    "price and code with dollar": ("Pay $5, run `$HOME/x.sh` now.", ("`$HOME/x.sh`",)),
    "code with two dollars": ("Run `echo $$` or `kill $$` now.", ("`echo $$`", "`kill $$`")),
    "code with brackets": ("Write `\\[` and `\\]` there.", ("`\\[`", "`\\]`")),
    "code with zero width": ("Write `a\u200bb` there.", ("`a\u200bb`",)),
    "URL": ("See https://a.org/x?y=1&z=2#top there.", ("https://a.org/x?y=1&z=2#top",)),
    "URL, full stop": ("See https://a.org/x.html. Then go.", ("https://a.org/x.html",)),
    "URL, comma": ("See https://a.org/x, then go.", ("https://a.org/x",)),
    "URL in brackets": ("Look (https://a.org/x) there.", ("https://a.org/x",)),
    "URL with brackets": ("See https://a.org/A_(b)/c there.", ("https://a.org/A_(b)/c",)),
    "URL, question": ("Is it www.a.org/x1?", ("www.a.org/x1",)),
    "URL before Korean": ("주소는 https://a.org/x1입니다.", ("https://a.org/x1",)),
    "URL before Chinese": ("见https://a.org/x1。然后走。", ("https://a.org/x1",)),
    "URL between angles": ("See <https://a.org/x> there.", ("<https://a.org/x>",)),
    "e-mail": ("Write to a.b+c@d1.org, please.", ("a.b+c@d1.org",)),
    "e-mail, full stop": ("Write to a@b.org. Then go.", ("a@b.org",)),
    "e-mail before Korean": ("메일은 a@b.co.kr로 보내세요.", ("a@b.co.kr",)),
    "e-mail in Chinese": ("请写信给a@b.org。谢谢。", ("a@b.org",)),
    "braces": ("Hello {name}, come in.", ("{name}",)),
    "braces before Korean": ("{name}님, 안녕하세요.", ("{name}",)),
    "numbered braces": ("Hello {0}, this is {}.", ("{0}", "{}")),
    "double braces": ("Hello {{user name}}, come in.", ("{{user name}}",)),
    "shell variable": ("Hello ${USER_1}, come in.", ("${USER_1}",)),
    "percent": ("Hello %s, you are %d.", ("%s", "%d")),
    "named percent": ("Hello %(name)s, you are %(n)d.", ("%(name)s", "%(n)d")),
    "special token": ("Stop at <|im_end|> always.", ("<|im_end|>",)),
    "capitals": ("Dear [NAME], come to [CITY_2] soon.", ("[NAME]", "[CITY_2]")),
    "formula": ("The sum $a+b_1$ is small.", ("$a+b_1$",)),
    "bracket formula": ("The sum \\(a + b\\) is small.", ("\\(a + b\\)",)),
    "formula before Chinese": ("我们有$x_1$和$y$。", ("$x_1$", "$y$")),
    "LaTeX command": ("Then \\frac{a}{b} is small.", ("\\frac{a}{b}",)),
    "tags": ('This <a href="x1">is</a> good<br/> news.', ('<a href="x1">', "</a>", "<br/>")),
    "comment": ("This <!-- not that --> is good.", ("<!-- not that -->",)),
    "entities": ("Tom &amp; Anna &#39;here&#39;.", ("&amp;", "&#39;", "&#39;")),
    "link": ("See [the guide](http://a.b/c_(d)) there.", ("[", "](http://a.b/c_(d))")),
    "relative link": ("See [the guide](docs/guide.md) there.", ("[", "](docs/guide.md)")),
    "image": ("See ![a tree](img/tree1.png) there.", ("![", "](img/tree1.png)")),
    "snake_case": ("Call my_function_2 there.", ("my_function_2",)),
    "snake_case before Korean": ("my_function을 부르세요.", ("my_function",)),
}
MARKUP = {
    "bold": ("This **very big** tree.", ("**", "**")),
    "bold before Korean": ("**중요**합니다.", ("**", "**")),
    "italic": ("This *very* big _old_ tree.", ("*", "*", "_", "_")),
    "struck": ("This ~~old~~ tree.", ("~~", "~~")),
    "table": ("| A b | C |\n|:--|--:|\n| two | `x1` |", ("| ", " | ", " |\n|:--|--:|\n| ", " | `x1` |")),
    "table, escaped bar": ("| A \\| b | C |", ("| ", " \\| ", " | ", " |")),
    "heading": ("## Big tree\n\nText.", ("## ",)),
    "underlined heading": ("Big tree\n========\n\nText.", ("\n========\n\n",)),
    "nested list": (
        "- one\n  - two\n    1. three\n    2) four\n* five\n+ six",
        ("- ", "\n  - ", "\n    1. ", "\n    2) ", "\n* ", "\n+ "),
    ),
    "tasks": ("- [ ] one\n- [x] two", ("- [ ] ", "\n- [x] ")),
    "quote": ("> one\n> > two\n>\n> - three", ("> ", "\n> > ", "\n>\n> - ")),
    "Chinese numbers": ("1、你好\n2、再见", ("1、", "\n2、")),
    "line ends": ("one\r\ntwo\n\n\nthree\u2028four\r\n", ("\r\n", "\n\n\n", "\u2028", "\r\n")),
    "spaces": ("  one  \n   two\t\n", ("  ", "  \n   ", "\t\n")),
    "continued line": ("- one\n    and two", ("- ", "\n    ")),
    "list continued after a blank line": ("- one\n\n    and two", ("- ", "\n\n    ")),
    "control characters": ("one\x00two\x1b", ("\x00", "\x1b")),
}
EXAMPLES = [pytest.param(*case, id=name) for group in (BLOCKS, SPANS, MARKUP) for name, case in group.items()]


@pytest.mark.parametrize("splitting", SETTINGS, ids=NAMES)
def test_link_with_title(splitting):
    """Whether the title is translated is open; the address and the brackets are not."""
    assert "](docs/guide.md " in translated('See [it](docs/guide.md "Title") there.', "en", splitting)


def language_of(text: str) -> str:
    if re.search("[가-힣]", text):
        return "ko"
    return "zh" if re.search("[一-鿿]", text) else "en"


@pytest.mark.parametrize("splitting", SETTINGS, ids=NAMES)
@pytest.mark.parametrize(("text", "things"), EXAMPLES)
def test_protected_things_come_back_once_and_the_rest_is_translated(text, things, splitting):
    """An engine that destroys everything it may touch leaves the protected things, and only them."""
    language = language_of(text)
    # Chinese to Chinese, so that no space is put between its sentences
    assert translated(text, language, splitting, "zh" if language == "zh" else "es") == expected(text, things)


@pytest.mark.parametrize(
    ("text", "things"),
    [
        pytest.param(*case, id=name)
        for group in (BLOCKS, SPANS)
        for name, case in group.items()
        if name not in ("indented code", "code after a tab")  # indentation alone is no span
    ],
)
def test_gate_counts_protected_things(text, things):
    """A protected thing missing or doubled is noticed in the whole text."""
    assert same_spans(text, text)
    thing = things[-1]
    assert not same_spans(text, text.replace(thing, "", 1))


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 or $6 there.",
        "It costs $5, not $10.",
        "Between US$5 and US$6.",
        "A rise of 5 % since then.",
        "It is 50%salt.",
        "He said (really) so.",
        "I have one [small] wish.",
        "Is a < b and c > d?",
        "Tom & Anna.",
    ],
)
def test_prose_that_looks_like_markup_is_prose(text):
    """Prices, brackets and comparisons go to the engine."""
    assert protected_spans(text) == []
    assert "".join(prose_in(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "use your own words and be brief",
        "import duties on cars rose sharply",
        "the tenant (as defined above);",
        "for people in Korea, the answer is simple:",
        "if you live in a city, do this:",
        "while in Rome, do as the Romans do:",
        "else: nothing is known about her",
        "Item(s)",
        "Please use a pen; sign below (twice);",
    ],
)
def test_prose_that_looks_like_code_is_prose(text):
    """A line of lower-case prose, as wrapped texts have it, is no line of code."""
    assert prose_in(text), "protected as code, would stay untranslated"


@pytest.mark.parametrize(
    "code", ["def f(x):\n    return x + 1", "import numpy as np", "int main() {\n  return 0;\n}", "x = y + 2"]
)
def test_bare_code_is_not_prose(code):
    """Code without a fence, as in coding benchmarks."""
    assert not prose_in(code)


@pytest.mark.parametrize(
    ("language", "text", "sentences"),
    [
        ("en", "Dr. Smith paid 3.5 dollars. He left. Why?", ["Dr. Smith paid 3.5 dollars.", "He left.", "Why?"]),
        ("en", "Use e.g. a pen, i.e. ink. Then sign.", ["Use e.g. a pen, i.e. ink.", "Then sign."]),
        ("en", 'He said "Go." Then he left.', ['He said "Go."', "Then he left."]),
        ("en", "Wait... what? Yes!! Fine.", ["Wait... what?", "Yes!!", "Fine."]),
        ("zh", "你好。今天天气很好！你呢？", ["你好。", "今天天气很好！", "你呢？"]),
        ("zh-Hans", "圆周率是3.14。对。", ["圆周率是3.14。", "对。"]),
        ("zh", "他说：“你好。”然后走了。", ["他说：“你好。”", "然后走了。"]),
        ("ko", "안녕하세요. 오늘은 3.5도입니다. 어때요?", ["안녕하세요.", "오늘은 3.5도입니다.", "어때요?"]),
        ("ko", '그는 "안녕."이라고 말했다. 갔다.', ['그는 "안녕."이라고 말했다.', "갔다."]),
        ("es", "¿Qué tal? ¡Muy bien! Adiós.", ["¿Qué tal?", "¡Muy bien!", "Adiós."]),
    ],
)
def test_sentences(language, text, sentences):
    """Abbreviations, decimals and quotations end no sentence."""
    assert prose_in(text, language) == sentences


def test_sentence_end_inside_a_span_is_none():
    text = "Write `a. B! C?` there. Then go."
    assert prose_in(text, splitting=SENTENCES_SPANS) == ["Write `a. B! C?` there.", "Then go."]
    assert prose_in(text) == ["Write", "there.", "Then go."]


def test_lines_stay_whole_and_whole_texts_too():
    text = "One. Two.\nThree."
    assert prose_in(text, splitting=LINES) == ["One. Two.", "Three."]
    assert split_text(text, "en", Splitting("text", spans_inside=True, limit=0)) == [Part(text, "prose")]


def test_gaps_follow_the_target():
    """Chinese and Japanese have no space between sentences, all others do."""
    english, chinese = "One. Two.\nThree.", "一。二。\n三。"

    def joined(text: str, source: str, target: str) -> str:
        parts = split_text(text, source, SENTENCES)
        return join_parts(parts, {part.text: part.text for part in parts}, target)

    assert joined(english, "en", "zh") == joined(english, "en", "zh-Hant") == "One.Two.\nThree."
    assert joined(english, "en", "ja") == "One.Two.\nThree."
    assert joined(english, "en", "ko") == joined(english, "en", "it") == english
    assert joined(chinese, "zh", "zh") == chinese
    assert joined(chinese, "zh", "es") == joined(chinese, "zh-Hans", "ko") == "一。 二。\n三。"


def test_a_gap_wider_than_spaces_stays():
    """Only spaces are the language's; a tab or an ideographic space was put there by somebody."""
    parts = [Part("A.", "prose"), Part(" \t", "gap"), Part("B.", "prose")]
    assert join_parts(parts, {"A.": "甲。", "B.": "乙。"}, "zh") == "甲。 \t乙。"


def test_no_space_is_invented_inside_an_english_text():
    """Where the source has a space between words, no space between the characters of one word can be the sentence's."""
    text = "Visit Yahoo!Inc today. Go."
    parts = split_text(text, "en", SENTENCES)
    assert join_parts(parts, {part.text: part.text for part in parts}, "es") == text


def test_long_sentences_are_cut_at_clauses():
    """First at a comma or space; only a word beyond the limit is cut within."""
    splitting = Splitting("sentence", spans_inside=False, limit=21)
    assert prose_in("alpha beta gamma, delta epsilon", splitting=splitting) == ["alpha beta gamma,", "delta epsilon"]
    assert prose_in("a" * 50, splitting=splitting) == ["a" * 21, "a" * 21, "a" * 8]
    assert prose_in("第一部分，第二部分，第三部分", "zh", Splitting("sentence", False, 7)) == [
        "第一部分，",
        "第二部分，",
        "第三部分",
    ]


@pytest.mark.parametrize(
    ("text", "number"), [("alpha beta gamma 1,234 delta", "1,234"), ("alpha beta gamma 10:30 delta", "10:30")]
)
def test_a_number_is_not_cut(text, number):
    """The comma in a number and the colon in a time end no clause; every limit that the words and the number fit in."""
    for limit in range(7, 28):
        parts = split_text(text, "en", Splitting("sentence", spans_inside=False, limit=limit))
        assert any(number in part.text for part in parts), (limit, parts)


def test_a_span_beyond_the_limit_stays_whole():
    code = "`" + "x " * 50 + "y`"
    for splitting in SMALL:
        parts = split_text(f"Run {code} now.", "en", splitting)
        assert Part(code, "fixed") in parts
        assert all(len(part.text) <= splitting.limit for part in parts if part.kind == "prose")


@pytest.mark.parametrize("limit", [20, 21, 40, 60])
def test_line_with_spans_over_the_limit_respects_it(limit):
    splitting = Splitting("line", spans_inside=True, limit=limit)
    text = "Click `run`, then **wait** for https://a.org/x to load. " * 5
    prose = prose_in(text, splitting=splitting)
    assert prose
    assert max(map(len, prose)) <= limit


@pytest.mark.parametrize(
    "text", ["", " ", "\n", "`x`", "123 - 456", "```\nx\n```", "https://a.org", "---", "😀", "|---|---|"]
)
@pytest.mark.parametrize("splitting", SETTINGS, ids=NAMES)
def test_nothing_to_translate(text, splitting):
    assert not prose_in(text, splitting=splitting)
    assert "".join(part.text for part in split_text(text, "en", splitting)) == text


@pytest.mark.parametrize("text", ["½", "5 ²", "①", "¼ + ¾"])
def test_fractions_and_exponents_are_no_letters(text):
    """Numbers that are not decimal digits are numbers still: nothing to pay an engine for."""
    assert not has_prose(text)
    assert not prose_in(text)


def test_has_prose_and_mark_spans():
    assert has_prose("Run `x`")
    assert not has_prose("`x` {y} 12")
    assert mark_spans("Run `x` now") == [("Run ", False), ("`x`", True), (" now", False)]
    assert mark_spans("") == []


# What breaks text tools: fragments of markup next to each other, and every kind of character.
FRAGMENTS = st.sampled_from(
    [
        *(
            "```",
            "```py\n",
            "\n```\n",
            "~~~\n",
            "\n````\n",
            "`",
            "``",
            "`a. B`",
            "$",
            "$$",
            "$x$",
            "\\[",
            "\\]",
            "\\(",
            "\\)",
        ),
        *(
            "\\begin{a}",
            "\\end{a}",
            "{",
            "}",
            "{n}",
            "{{u}}",
            "${V}",
            "%s",
            "<|",
            "|>",
            "<b>",
            "</b>",
            "<!--",
            "-->",
            "&amp;",
        ),
        *(
            "[",
            "](",
            ")",
            "[x](y)",
            "![",
            "[NAME]",
            "*",
            "**",
            "_",
            "a_b",
            "~~",
            "|",
            "| a | b |\n",
            "# ",
            "- ",
            "1. ",
            "> ",
        ),
        *(
            "http://a.b/c",
            "https://a.b.",
            "a@b.cd",
            "www.x.y,",
            "\n",
            "\r\n",
            "\n\n",
            "\t",
            "    ",
            " ",
            "  ",
            "\u2028",
            "\u2029",
        ),
        *("\x00", "\x0b", "\x0c", "\x1c", "\x85", "\u200b", "\ufeff", "\u00a0", "\u3000", "\u202f", "\ufffe", "\x7f"),
        *(
            "Hello. ",
            "Dr. No! ",
            "Yes?",
            " 3.5 ",
            "e.g. ",
            "1,000",
            "你好。",
            "今天！",
            "“好。”",
            "안녕하세요. ",
            "네!",
            "、",
            "，",
        ),
        *(
            "😀",
            "👩‍👩‍👧",
            "e\u0301",
            "\u0301",
            "ß",
            "İ",
            "ﬁ",
            "עברית",
            "\u202e",
            "ไทย",
            "def f(x):\n",
            "x = 1;\n",
            "word word word ",
        ),
    ]
)
TEXTS = st.lists(FRAGMENTS | st.text(max_size=8), max_size=14).map("".join)
LANGUAGES = st.sampled_from(["en", "zh", "ko", "es", "xx"])
ANY_SPLITTING = st.sampled_from([*SETTINGS, *SMALL, Splitting("text", spans_inside=True, limit=0)])
FAST = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@FAST
@given(TEXTS, LANGUAGES, ANY_SPLITTING)
def test_the_parts_are_the_text(text, language, splitting):
    assert "".join(part.text for part in split_text(text, language, splitting)) == text


@FAST
@given(TEXTS, LANGUAGES, st.sampled_from([*SETTINGS, *SMALL]))
def test_prose_is_stripped_has_a_letter_and_fits(text, language, splitting):
    for prose in prose_in(text, language, splitting):
        assert prose == prose.strip()
        assert LETTERLIKE.search(prose)
        assert len(prose) <= splitting.limit


@pytest.mark.parametrize("end", ["\n", "\r", "\v", "\f", "\x85", "\u2028"])
def test_a_span_ends_with_its_line(end):
    """By whatever character a line ends, an engine is shown lines, and no span of them is another one."""
    assert protected_spans(f"a `b{end}c` d") == []
    assert protected_spans(f"`a. B`{end}A`a. B`") == ["`a. B`", "`a. B`"]
    assert protected_spans(f'<a{end}b> [x](u{end}"t")') == ["["]
    assert [piece for piece, protected in mark_spans(f"a `b`{end}c` d `e") if protected] == ["`b`", "` d `"]


@FAST
@given(TEXTS, LANGUAGES, st.sampled_from([LINES, SENTENCES_SPANS]))
@example("````a. B`\rA`a. B`", "en", LINES)
def test_spans_in_prose_are_the_spans_of_the_text(text, language, splitting):
    """Sentences are not cut through a span: what the engine is shown as protected was protected before."""
    whole = "".join(protected_spans(text))
    for prose in prose_in(text, language, splitting):
        assert all(piece in whole for piece, protected in mark_spans(prose) if protected and len(piece) > 3)


@FAST
@given(TEXTS, ANY_SPLITTING)
def test_an_engine_that_changes_nothing_changes_nothing(text, splitting):
    """Exactly, where the source has spaces between its sentences; else only spaces are added or dropped."""
    parts = split_text(text, "en", splitting)
    same = {part.text: part.text for part in parts}
    for target in ("es", "zh"):
        assert join_parts(parts, same, target).replace(" ", "") == text.replace(" ", "")
    assume(all(part.text for part in parts if part.kind == "gap"))
    assert join_parts(parts, same, "es") == text


@FAST
@given(TEXTS, LANGUAGES, ANY_SPLITTING, st.sampled_from([str.upper, lambda prose: prose[::-1], lambda prose: ""]))
def test_fixed_parts_stay_in_place_and_in_order(text, language, splitting, change):
    parts = split_text(text, language, splitting)
    joined = join_parts(parts, {part.text: change(part.text) for part in parts}, "es")
    at = 0
    for part in parts:
        piece = change(part.text) if part.kind == "prose" else (part.text or " ") if part.kind == "gap" else part.text
        assert joined.startswith(piece, at)
        at += len(piece)
    assert at == len(joined)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text, id=f"{text[:8]!a} x {len(text)}")
        for text in (
            *(
                "`" * 20000,
                "` " * 10000,
                "`a" * 10000,
                "(`" * 5000,
                "$ab " * 5000,
                "$$ a" * 5001,
                "[" * 5000,
                "![a" * 5000,
            ),
            *(
                "a" * 20000,
                "(.)" * 9000,
                "](a(" * 3000,
                "[a](b" * 3000,
                "<a" * 7000,
                "<!--" * 5000,
                "\\(" * 4000,
                "\\[" * 5000,
            ),
            *(
                "\\begin{a}" * 2000,
                "{{a" * 5000,
                "a_" * 10000,
                "a@" * 10000,
                "a." * 10000 + "@",
                "*" * 20000,
                "```a\n" * 3001,
            ),
            *(
                "~~~\n" + "~~\n" * 6000,
                "> " * 7000,
                "- " * 10000,
                " " * 20000 + "a",
                "\n" * 20000,
                "中" * 20000,
                "。" * 20000,
            ),
            *(
                "a. " * 5000,
                "www." * 5000,
                "f(" * 8000,
                "a = " * 5000,
                "if (" * 5000,
                "Aa " * 7000,
                "Aa, a" * 5000,
            ),
        )
    ],
)
def test_no_catastrophic_backtracking(text):
    """Far from the usual; the bound is loose, because only exponential or steep polynomial growth is to be caught."""
    start = time.process_time()
    assert "".join(part.text for part in split_text(text, "en", SENTENCES)) == text
    protected_spans(text)
    assert time.process_time() - start < 5
