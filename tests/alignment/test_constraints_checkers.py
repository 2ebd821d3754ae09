"""What each constraint takes for fulfilled, by its definition: what the embedded study's rows do not show."""

import pytest

from rmtransfer.alignment.constraints.registry import CONSTRAINTS, UnusableError, fulfils, read_constraint
from rmtransfer.alignment.constraints.units import cleaned, count_sentences, count_words

LANGUAGES = ["en", "es", "it", "ko", "zh"]
NO_COMMA, TITLE, JSON = "punctuation:no_comma", "detectable_format:title", "detectable_format:json_format"
QUOTED, BULLETS = "startend:quotation", "detectable_format:number_bullet_lists"
PLACEHOLDERS, HIGHLIGHTS = "detectable_content:number_placeholders", "detectable_format:number_highlighted_sections"
PARAGRAPHS, TWO = "length_constraints:number_paragraphs", "combination:two_responses"
FIRST, REPEAT = "length_constraints:nth_paragraph_first_word", "combination:repeat_prompt"
HAS, LACKS, OFTEN = "keywords:existence", "keywords:forbidden_words", "keywords:frequency"
LETTER, SECTIONS = "keywords:letter_frequency", "detectable_format:multiple_sections"
POSTSCRIPT, END = "detectable_content:postscript", "startend:end_checker"
ONE_OF, SPEAKS = "detectable_format:constrained_response", "language:response_language"
CAPITALS = "change_case:capital_word_frequency"
WORDS, SENTENCES = "length_constraints:number_words", "length_constraints:number_sentences"


def holds(identity, text, language="en", /, **kwargs):
    return fulfils(text, read_constraint(identity, kwargs, language, LANGUAGES), language)


@pytest.mark.parametrize("comma", ",，、､﹐﹑،՝፣")
def test_commas_of_every_script(comma):
    assert not holds(NO_COMMA, f"one{comma} two", "zh")


@pytest.mark.parametrize("text", ["one two", "one; two: 1.000 «three» ’ ‘ · ・ 。"])
def test_what_is_no_comma(text):
    assert holds(NO_COMMA, text)


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "<<Joy>>", True),
        ("en", "Here: <<Joy>> and more", True),
        ("en", "<< >>", False),
        ("en", "<Joy>", False),
        ("en", "<<Joy\n>>", False),
        ("es", "«Alegría»\n\nHoy", True),
        ("es", "Leí «Alegría» ayer", False),
        ("it", "## «Gioia»\n", True),
        ("ko", "《기쁨》\n\n오늘", True),
        ("ko", "《기쁨》은 책입니다", False),
        ("zh", "＜＜喜悦＞＞", True),
        ("zh", "《》\n", False),
    ],
)
def test_titles(language, text, expected):
    assert holds(TITLE, text, language) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": [1, "二"]}', True),
        ('\n```json\n{"a": 1}\n```\n', True),
        ('```JSON\r\n{"a": 1}\r\n```', True),
        ("~~~\n[]\n~~~", True),
        ('```{"a": 1}```', True),
        ('{"a": 1', False),
        ('{"a": NaN}', False),
        ("{'a': 1}", False),
        ("“a”: 1", False),
        ("7", False),
        ('"seven"', False),
        ('{"a": 1}\nI hope this helps.', False),
        ("[" * 100_000, False),
    ],
)
def test_json(text, expected):
    assert holds(JSON, text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"yes"', True),
        (' "yes"\n', True),
        ("“yes”", True),
        ("„ja“", True),
        ("„tak”", True),
        ("«sí»", True),
        ("「好」", True),
        ("『네』", True),
        ("＂好＂", True),
        ("“He said “yes” twice”", True),
        ("“Yes”, he said, “no”", False),
        ("'yes'", False),
        ('"yes', False),
        ('yes"', False),
        ('"', False),
        ('""', False),
        ('" "', False),
        ("“yes»", False),
        ('He said "yes"', False),
    ],
)
def test_quotation(text, expected):
    assert holds(QUOTED, text, "zh") is expected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("* a\n* b", 2),
        ("- a\n  - b\n+ c", 3),
        ("•가\n• 나", 2),
        ("· 一\n●二", 2),
        ("---\n***\n* * *\n- - -", 0),
        ("**bold**\n*slanted*", 0),
        ("-5 degrees\n-a", 0),
        ("1. a\n2. b", 0),
        ("*\n-", 0),
        ("a * b\nc - d", 0),
    ],
)
def test_bullets(text, number):
    assert holds(BULLETS, text, num_bullets=number)
    assert not holds(BULLETS, text, num_bullets=number + 1)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("[name] [your address]", 2),
        ("[이름]［地址］【日期】", 3),
        ("[1] [ ] []", 0),
        ("[link](https://example.org)", 0),
        ("- [x] done\n- [X] done", 0),
        ("[a\nb]", 0),
    ],
)
def test_placeholders(text, number):
    assert holds(PLACEHOLDERS, text, num_placeholders=number)
    assert not holds(PLACEHOLDERS, text, num_placeholders=number + 1)
    assert holds(PLACEHOLDERS, text, num_placeholders=number, relation="at most")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("*a* **b** ***c***", 3),
        ("*한국어*는 **중요**합니다", 2),
        ("* a\n* b", 0),
        ("2 * 3 * 4", 0),
        ("** **", 0),
        ("*a\nb*", 0),
        ("**a*", 0),
        ("\\*a\\*", 0),
    ],
)
def test_highlights(text, number):
    assert holds(HIGHLIGHTS, text, num_highlights=number)
    assert not holds(HIGHLIGHTS, text, num_highlights=number + 1)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("a", 1),
        ("a\n***\nb", 2),
        ("***\na\n***\nb\n***", 2),
        ("a *** b", 2),
        ("a\n* * *\nb", 2),
        ("a ***b*** c", 1),
        ("a\n****\nb", 1),
        ("a\n\nb", 1),
    ],
)
def test_paragraphs_between_dividers(text, number):
    assert holds(PARAGRAPHS, text, num_paragraphs=number)
    assert not holds(PARAGRAPHS, text, num_paragraphs=number + 1)


def test_no_paragraph_between_dividers_is_blank():
    assert not any(holds(PARAGRAPHS, "a\n***\n \n***\nb", num_paragraphs=number) for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n******\nb", True),
        ("a ****** b", True),
        ("******\na\n******\nb\n******", True),
        ("가\n＊＊＊＊＊＊\n나", True),
        ("a\n******\nA", False),
        ("a\n******\nb\n******\nc", False),
        ("a\n******\n******\nb", False),
        ("a\n*******\nb", False),
        ("a\n***\nb", False),
        ("a", False),
    ],
)
def test_two_responses(text, expected):
    assert holds(TWO, text) is expected


@pytest.mark.parametrize(
    ("language", "text", "word", "expected"),
    [
        ("en", "One.\n\nYes, two.", "yes", True),
        ("en", "One.\n \n\n**Yes** two.", "yes", True),
        ("en", "One.\n\nYesterday.", "yes", False),
        ("en", "One.\nYes.", "yes", False),
        ("en", "One.\n\nYes.\n\nThree.", "yes", False),
        ("es", "Uno.\n\n¡Sí! Dos.", "sí", True),
        ("es", "Uno.\n\nDiría que dos.", "Diría que", True),
        ("it", "Uno.\n\nFine settimana.", "fine settimana", True),
        ("ko", "하나.\n\n요약은 둘.", "요약", True),
        ("zh", "一。\n\n“总结一下。", "总结", True),
        ("zh", "一。\n\n最后总结。", "总结", False),
    ],
)
def test_first_word_of_the_second_of_two_paragraphs(language, text, word, expected):
    assert holds(FIRST, text, language, num_paragraphs=2, nth_paragraph=2, first_word=word) is expected


@pytest.mark.parametrize(
    ("language", "text", "word", "found", "as_a_word"),
    [
        ("en", "Cats and a CAT", "cat", 2, 1),
        ("en", "category", "cat", 1, 0),
        ("en", "a.b axb", "a.b", 1, 1),
        ("en", "New\nYork", "new york", 1, 1),
        ("es", "Canción y canciones", "CANCIÓN", 1, 1),
        ("es", "el niño y el nino", "niño", 1, 1),
        ("it", "l'amico, gli amici", "amico", 1, 1),
        ("ko", "고양이는 고양이를 본다", "고양이", 2, 2),
        ("ko", "잠시 잠을 잔다", "잠", 2, 1),
        ("ko", "겨울에서부터는", "겨울", 1, 1),
        ("zh", "猫和小猫", "猫", 2, 2),
        ("zh", "ＪＳＯＮ格式", "json", 1, 1),
    ],
)
def test_keywords(language, text, word, found, as_a_word):
    assert holds(HAS, text, language, keywords=[word]) is bool(found)
    assert not holds(HAS, text, language, keywords=[word, "zebra"])
    assert holds(LACKS, text, language, forbidden_words=["zebra", word]) is not bool(as_a_word)
    assert holds(OFTEN, text, language, keyword=word, frequency=found, relation="at least")
    assert not holds(OFTEN, text, language, keyword=word, frequency=found + 1, relation="at least")
    assert holds(OFTEN, text, language, keyword=word, frequency=found + 1, relation="less than")
    assert not holds(OFTEN, text, language, keyword=word, frequency=found, relation="less than")


@pytest.mark.parametrize(
    ("language", "text", "letter", "found"),
    [
        ("en", "Eel", "e", 2),
        ("en", "#a #b", "#", 2),
        ("es", "Niño año n", "ñ", 2),
        ("es", "é e", "e", 1),
        ("es", "e\u0301 é", "é", 2),
        ("it", "Perché", "É", 1),
        ("ko", "다 간다", "다", 2),
        ("zh", "龙与龙！", "龙", 2),
        ("zh", "好！", "!", 1),
    ],
)
def test_letters(language, text, letter, found):
    assert holds(LETTER, text, language, letter=letter, let_frequency=found, let_relation="at least")
    assert not holds(LETTER, text, language, letter=letter, let_frequency=found + 1, let_relation="at least")


@pytest.mark.parametrize(
    ("language", "word", "text", "number"),
    [
        ("en", "SECTION", "SECTION 1\na\n## SECTION 2: b", 2),
        ("en", "SECTION", "**SECTION I** a\n**SECTION II** b", 2),
        ("en", "SECTION", "SECTION X\na\nSECTION X\nb", 0),
        ("en", "Section", "as Section 1 and Section 2 say", 0),
        ("en", "Section", "Section 1: a. Section 2: b.", 2),
        ("es", "Sección", "Seccio\u0301n 1\nSección 2", 2),
        ("it", "Sezione", "Sezione 1\nSezione 2", 2),
        ("ko", "섹션", "섹션 1\n섹션2입니다", 2),
        ("ko", "일", "1일\n2일차: 바다\n3일에서", 2),
        ("zh", "天", "第1天\n第二天上午", 2),
        ("zh", "受众", "受众一：你好", 1),
    ],
)
def test_sections(language, word, text, number):
    assert holds(SECTIONS, text, language, section_spliter=word, num_sections=number)
    assert not holds(SECTIONS, text, language, section_spliter=word, num_sections=number + 1)


@pytest.mark.parametrize(
    ("language", "marker", "text", "expected"),
    [
        ("en", "P.S.", "Bye.\n\nP.S. Write soon.", True),
        ("en", "P.S.", "Bye. p. s. write soon", True),
        ("en", "P.S.", "Bye.\n\n**P.S.:** Write soon.", True),
        ("en", "P.S.", "Bye.\n\nP.P.S. Write soon.", False),
        ("en", "P.P.S", "Bye.\n\nP.P.S. Write soon.", True),
        ("en", "P.S.", "Bye.\n\nP.S.", False),
        ("en", "P.S.", "Bye.\n\nPS Write soon.", False),
        ("es", "P.D.", "Adiós.\n\nP. D.: Escribe pronto.", True),
        ("it", "P.S.", "Ciao.\n\nP.S. Scrivi presto.", True),
        ("ko", "추신", "안녕.\n\n추신: 곧 써 주세요.", True),
        ("zh", "P.S.", "再见。\n\nＰ．Ｓ．早日回信。", True),
        ("zh", "附言", "再见。\n\n附言：", False),
    ],
)
def test_postscripts(language, marker, text, expected):
    assert holds(POSTSCRIPT, text, language, postscript_marker=marker) is expected


@pytest.mark.parametrize(
    ("language", "phrase", "text", "expected"),
    [
        ("en", "Any questions?", "That is all. ANY QUESTIONS?", True),
        ("en", "Any questions?", "**Any questions?**\n", True),
        ("en", "Any questions?", "“That is all. Any questions?”", True),
        ("en", "Any questions?", "Any questions? Ask.", False),
        ("en", "Any questions?", "Any questions", False),
        ("es", "Espero su respuesta", "Un saludo. Espero su respuesta.", True),
        ("it", "Che ne pensi?", "Ecco. Che ne pensi?", True),
        ("ko", "질문이 있나요?", "끝. 질문이 있나요？", True),
        ("zh", "还有问题吗？", "完了。还有问题吗?", True),
        ("zh", "还有问题吗？", "还有问题吗？没有。", False),
    ],
)
def test_ends(language, phrase, text, expected):
    assert holds(END, text, language, end_phrase=phrase) is expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "Let me think. My answer is maybe. It depends.", True),
        ("en", "my answer is yes", False),
        ("es", "“Mi respuesta es tal vez”", True),
        ("es", "Mi respuesta es nosotros", False),
        ("it", "La mia risposta è no.", True),
        ("ko", "제 대답은 '아니요'입니다.", True),
        ("ko", "제 답은 예입니다.", True),
        ("zh", "我的答案是“不是”。", True),
        ("zh", "我的答案是蓝色。", False),
    ],
)
def test_one_of_the_options(language, text, expected):
    assert holds(ONE_OF, text, language) is expected


def test_m_ifeval_has_short_options():
    assert holds("es:detectable_format:constrained_response", "Quizás.", "es")
    assert not holds("detectable_format:constrained_response", "Quizás.", "es")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Name a  FRUIT.\nAn apple.", True),
        ("Name a fruit.", False),
        ("Sure! Name a fruit. An apple.", False),
        ("An apple.", False),
    ],
)
def test_the_prompt_repeated(text, expected):
    assert holds(REPEAT, text, prompt_to_repeat="Name a fruit.") is expected


LONG = {
    "en": "The sea looks blue because water absorbs red light.",
    "es": "El mar se ve azul porque el agua absorbe la luz roja.",
    "it": "Il mare sembra blu perché l'acqua assorbe la luce rossa.",
    "ko": "물이 붉은빛을 흡수하기 때문에 바다는 파랗게 보입니다.",
    "zh": "海水看起来是蓝色的，因为水会吸收红光。",
}
SHORT = {"en": "Yes.", "es": "Sí.", "it": "Sì.", "ko": "네.", "zh": "是。"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_answer_languages(language):
    code = {"zh": "zh-cn"}.get(language, language)
    for other, text in LONG.items():
        assert holds(SPEAKS, text, language, language=code) is (other == language)
    assert holds(SPEAKS, SHORT[language], language, language=code)
    assert holds(SPEAKS, "42", language, language=code)  # a number is in every language
    foreign = SHORT["ko" if language != "ko" else "en"]
    assert not holds(SPEAKS, foreign, language, language=code)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("capital", "EL MAR ES AZUL.", True),
        ("capital", "EL MAR ES Azul.", False),
        ("capital", "42", False),
        ("capital", LONG["it"].upper(), False),
        ("lowercase", "el mar es azul.", True),
        ("lowercase", "El mar es azul.", False),
        ("lowercase", LONG["en"].lower(), False),
    ],
)
def test_casing_is_in_the_own_language(name, text, expected):
    assert holds(f"es:change_case:spanish_{name}", text, "es") is expected


@pytest.mark.parametrize(
    ("text", "number"), [("I saw A NASA rocket", 1), ("WELL-KNOWN U.S. Facts", 2), ("COVID-19 B2B 42", 2)]
)
def test_words_in_capitals(text, number):
    assert holds(CAPITALS, text, capital_relation="at least", capital_frequency=number)
    assert holds(CAPITALS, text, capital_relation="less than", capital_frequency=number + 1)


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("en", "Don't panic: 3 well-known facts.", 7),
        ("es", "¿Qué tal, señor Núñez?", 4),
        ("it", "L'acqua è fresca.", 4),
        ("ko", "물가가 3.5%입니다 - 네.", 3),
        ("zh", "我有3个iPhone手机。", 7),
        ("zh-Hant", "我愛你", 3),
    ],
)
def test_word_counts(language, text, words):
    assert count_words(text, language) == words
    assert holds(WORDS, text, language, relation="at least", num_words=words)
    assert not holds(WORDS, text, language, relation="less than", num_words=words)


@pytest.mark.parametrize(
    ("language", "text", "sentences"),
    [
        ("en", "Dr. Smith left. Did he? Yes!", 3),
        ("en", "1. Buy milk.\n2. Go home.", 2),
        ("en", "# Title\nOne. Two.\n\n- three\n- four", 5),
        ("en", "...\n---", 0),
        ("es", "El Sr. Pérez salió. ¿Volvió? ¡No!", 3),
        ("it", "Il dott. Rossi è uscito. Torna? No!", 3),
        ("ko", "안녕하세요. 뭐 하세요? 좋아요!", 3),
        ("zh", "你好。吃了吗？吃了！", 3),
    ],
)
def test_sentence_counts(language, text, sentences):
    assert count_sentences(text, language) == sentences
    assert holds(SENTENCES, text or "x", language, relation="at most", num_sentences=sentences)


@pytest.mark.parametrize(
    ("identity", "kwargs", "language", "why"),
    [
        ("change_case:english_capital", {}, "ko", "another language is asked for"),
        ("change_case:english_lowercase", {}, "es", "another language is asked for"),
        (CAPITALS, {"capital_relation": "at least", "capital_frequency": 1}, "zh", "no upper and lower case"),
        (LETTER, {"letter": "n", "let_frequency": 1, "let_relation": "at least"}, "ko", "another script"),
        (SPEAKS, {"language": "en"}, "it", "another language is asked for"),
        (WORDS, {"relation": "at least", "num_words": 3}, "ja", "no words"),
        (ONE_OF, {}, "de", "no options in de"),
        ("letters:furigana", {}, "en", "no checker"),
    ],
)
def test_what_cannot_be_checked(identity, kwargs, language, why):
    with pytest.raises(UnusableError, match=why):
        read_constraint(identity, kwargs, language, LANGUAGES)


@pytest.mark.parametrize(
    ("identity", "kwargs", "why"),
    [
        (BULLETS, {}, "lacks num_bullets"),
        (BULLETS, {"num_bullets": None}, "lacks num_bullets"),
        (BULLETS, {"num_bullets": "3"}, "whole number"),
        (BULLETS, {"num_bullets": True}, "whole number"),
        (BULLETS, {"num_bullets": 2.5}, "whole number"),
        (BULLETS, {"num_bullets": -1}, "whole number"),
        (PARAGRAPHS, {"num_paragraphs": 0}, "at least 1"),
        (HAS, {"keywords": "cat"}, "list of texts"),
        (HAS, {"keywords": []}, "list of texts"),
        (HAS, {"keywords": [" "]}, "not empty"),
        (END, {"end_phrase": 7}, "text that is not empty"),
        (WORDS, {"relation": "about", "num_words": 3}, "at least"),
        (LETTER, {"letter": "ab", "let_frequency": 1, "let_relation": "at least"}, "one character"),
        ("fr:keywords:existence", {"keywords": ["a"]}, "constraint in fr"),
    ],
)
def test_wrong_arguments(identity, kwargs, why):
    with pytest.raises(ValueError, match=why):
        read_constraint(identity, kwargs, "en", LANGUAGES)


def test_a_table_of_all_arguments_of_all_constraints():
    kwargs = {"num_bullets": 3.0, "keywords": None, "relation": None, "letter": "x"}
    assert read_constraint(BULLETS, kwargs, "en", LANGUAGES).kwargs == {"num_bullets": 3}


def test_every_checker_says_what_counts():
    assert all(kind.check.__doc__ for kind in CONSTRAINTS.values())


def test_texts_are_read_alike_whatever_their_line_ends():
    assert cleaned("a\r\nb\rc\u2028d\n\re") == "a\nb\nc\nd\n\ne"
    assert holds(BULLETS, "* a\r* b", num_bullets=2)
