"""The memory replays what it holds, character for character, and names what it lacks."""

import pytest

from rmtransfer.errors import StudyError
from rmtransfer.translation import translate_rows
from rmtransfer.translation.memory import TranslationMemory, tmx_languages

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
        return TranslationMemory(path)

    return write


def test_texts_come_back_exactly(memory):
    code = "1. uno\n   dos  \n\n```python\nif a &lt; b:\n    print(&quot;x&quot;)\n```"
    engine = memory(unit(en="one", es=code, ko="하나"), unit(en="a &amp; b\n c", es="a y b", ko="가"))
    plain = '1. uno\n   dos  \n\n```python\nif a < b:\n    print("x")\n```'
    assert engine.translate(["a & b\n c", "one"], "en", "es") == ["a y b", plain]
    assert engine.translate(["one"], "en", "ko") == ["하나"]


def test_missing_segments_are_listed(memory):
    engine = memory(unit(en="one", es="uno"))
    with pytest.raises(StudyError) as error:
        engine.translate(["one", "two\nlines", "three"], "en", "es")
    assert "2 of 3 segments have no en -> es translation" in str(error.value)
    assert "'two\\nlines'" in str(error.value)
    assert "'three'" in str(error.value)


def test_an_empty_translation_is_missing(memory):
    with pytest.raises(StudyError, match="1 of 1 segments"):
        memory(unit(en="one", es=" ")).translate(["one"], "en", "es")


def test_two_answers_are_refused_and_one_twice_is_not(memory):
    twice = unit(en="one", es="uno")
    assert memory(twice, twice).translate(["one"], "en", "es") == ["uno"]
    with pytest.raises(StudyError, match="two different es translations"):
        memory(twice, unit(en="one", es="una")).translate(["one"], "en", "es")


def test_a_broken_file_is_named_with_the_place(tmp_path):
    path = tmp_path / "broken.tmx"
    path.write_text(TMX.format(unit(en="one", es="uno"))[:-30])
    for call in (lambda: tmx_languages(path), lambda: TranslationMemory(path).translate(["one"], "en", "es")):
        with pytest.raises(StudyError, match=r"broken\.tmx: not a well-formed TMX file \(.*line \d+"):
            call()


def test_languages_of_a_memory(memory):
    engine = memory(unit(en="one", es="uno"), unit(en="two", **{"zh-Hant": "二"}))
    assert tmx_languages(engine.path) == {"en", "es", "zh-Hant"}


class Counting:
    def __init__(self):
        self.asked = []

    def translate(self, texts, source, target):
        self.asked.append((list(texts), source, target))
        return [f"{target}:{t}" for t in texts]


def test_rows_keep_ids_subsets_and_roles_and_texts_are_asked_for_once():
    rows = [
        {
            "id": i,
            "subset": "chat",
            "prompt": [{"role": "system", "content": "Brief."}, {"role": "user", "content": i}],
            "chosen": [{"role": "assistant", "content": "yes"}],
        }
        for i in ("a", "b")
    ]
    engine = Counting()
    out = translate_rows(rows, ("prompt", "chosen"), engine, "en", "es")
    assert engine.asked == [(["Brief.", "a", "yes", "b"], "en", "es")]
    assert out[1]["prompt"] == [{"role": "system", "content": "es:Brief."}, {"role": "user", "content": "es:b"}]
    assert (out[1]["id"], out[1]["subset"]) == ("b", "chat")
    assert rows[1]["prompt"][1]["content"] == "b"  # the input is left alone
