"""The memory replays what it holds, character for character, and names what it lacks."""

import pytest
from lxml import etree
from test_pipeline import LONG, SPANISH

from rmtransfer.kit.errors import StudyError
from rmtransfer.translation.memory import TranslationMemory, read_tmx, tmx_languages, write_tmx
from rmtransfer.translation.pipeline import translate_texts
from rmtransfer.translation.store import Translation
from scripted_engine import MACHINE

TMX = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en" datatype="plaintext" segtype="block" adminlang="en" o-tmf="x"
  creationtool="x" creationtoolversion="1"/><body>{}</body></tmx>"""


def unit(**texts):
    return "<tu>" + "".join(f'<tuv xml:lang="{k}"><seg>{v}</seg></tuv>' for k, v in texts.items()) + "</tu>"


@pytest.fixture
def memory(tmp_path):
    def write(*units):
        path = tmp_path / "memory.tmx"
        path.write_text(TMX.format("".join(units)), encoding="utf-8")
        return path

    return write


def ask(path, texts, target="es"):
    (answers,) = TranslationMemory(path.name, "en", target, MACHINE._replace(root=path.parent)).translate(texts)
    return [answers[text].text for text in texts]


def test_texts_come_back_exactly(memory):
    code = "1. uno\n   dos  \n\n```python\nif a &lt; b:\n    print(&quot;x&quot;)\n```"
    engine = memory(unit(en="one", es=code, ko="하나"), unit(en="a &amp; b\n c", es="a y b", ko="가"))
    plain = '1. uno\n   dos  \n\n```python\nif a < b:\n    print("x")\n```'
    assert ask(engine, ["a & b\n c", "one"]) == ["a y b", plain]
    assert ask(engine, ["one"], "ko") == ["하나"]


def test_missing_segments_are_listed(memory):
    engine = memory(unit(en="one", es="uno"))
    with pytest.raises(StudyError) as error:
        ask(engine, ["one", "two\nlines", "three"])
    assert "2 of 3 segments have no en -> es translation" in str(error.value)
    assert "'two\\nlines'" in str(error.value)
    assert "'three'" in str(error.value)


def test_an_empty_translation_is_missing(memory):
    with pytest.raises(StudyError, match="1 of 1 segments"):
        ask(memory(unit(en="one", es=" ")), ["one"])


def test_two_answers_are_refused_and_one_twice_is_not(memory):
    twice = unit(en="one", es="uno")
    assert ask(memory(twice, twice), ["one"]) == ["uno"]
    with pytest.raises(StudyError, match="two different es translations"):
        ask(memory(twice, unit(en="one", es="una")), ["one"])


def test_a_broken_file_is_named_with_the_place(tmp_path):
    path = tmp_path / "broken.tmx"
    path.write_text(TMX.format(unit(en="one", es="uno"))[:-30])
    for call in (lambda: tmx_languages(path), lambda: ask(path, ["one"])):
        with pytest.raises(StudyError, match=r"broken\.tmx: not a well-formed TMX file \(.*line \d+"):
            call()


def test_languages_of_a_memory(memory):
    engine = memory(unit(en="one", es="uno"), unit(en="two", **{"zh-Hant": "二"}))
    assert tmx_languages(engine) == {"en", "es", "zh-Hant"}


def test_a_memory_written_is_read_back_with_its_flaws(tmp_path):
    """Markup characters, line breaks and what a study dropped survive; code points that XML cannot hold never occur."""
    units = [
        (
            "a < b & c\n  d",
            {"es": Translation("x > y\n\n z"), "ko": Translation("하나", ("wrong language", "length ratio"))},
        ),
        ("two", {"es": Translation("dos")}),
    ]
    path = tmp_path / "out.tmx"
    assert write_tmx(path, "en", iter(units)) == 2
    assert read_tmx(path, "en", "es") == {"a < b & c\n  d": Translation("x > y\n\n z"), "two": Translation("dos")}
    assert read_tmx(path, "en", "ko") == {"a < b & c\n  d": Translation("하나", ("wrong language", "length ratio"))}
    assert etree.parse(path).getroot().get("version") == "1.4"


def test_a_text_may_come_back_as_it_was(memory):
    """Gates compare a translation with the text that it translates, on the way back too, and never with the original."""
    path = memory(unit(en=LONG, es=SPANISH, **{"en-GB": LONG}))
    machine = MACHINE._replace(root=path.parent)
    for out, there in (("es", SPANISH), ("en-GB", LONG)):
        back = TranslationMemory(path.name, out, "en", machine)
        assert translate_texts([there], back, None) == {there: Translation(LONG)}
    copied = memory(unit(en=LONG, es=LONG))
    (result,) = translate_texts([LONG], TranslationMemory(copied.name, "en", "es", machine), None).values()
    assert result.flaws == ("untranslated copy",)
