"""Engine ``memory``: replay a TMX translation memory, word for word; and write one.

TMX 1.4b: https://www.gala-global.org/tmx-14b
"""

import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from rmtransfer.kit.errors import StudyError
from rmtransfer.study.options import Text
from rmtransfer.translation import Machine
from rmtransfer.translation.store import Scope, Translation
from rmtransfer.translation.structure import Splitting

_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_FLAW = "x-flaw"
_SHOWN = 10


def tmx_languages(path: Path) -> set[str]:
    """The languages of which a TMX file holds at least one segment.

    Raises:
        StudyError: the file is not well-formed XML, with the place of the fault.
    """
    return _languages_in(path, path.stat().st_mtime_ns)


@functools.cache  # a study asks for each of its languages
def _languages_in(path: Path, changed: int) -> set[str]:
    from lxml import etree

    found = set()
    try:
        for _, tuv in etree.iterparse(str(path), tag="tuv", load_dtd=False, no_network=True):
            found.add(tuv.get(_XML_LANG) or tuv.get("lang"))
            tuv.clear()
        return found - {None}
    except etree.XMLSyntaxError as problem:
        raise StudyError(f"{path}: not a well-formed TMX file ({problem.msg}); export it again") from problem


def read_tmx(path: Path, source: str, target: str) -> dict[str, Translation]:
    """Source text to translation of every unit that has both; the flaws are those that :func:`write_tmx` noted.

    Raises:
        StudyError: the file is damaged, or gives one text two translations.
    """
    from translate.storage.tmx import tmxfile

    tmx_languages(path)  # the toolkit swallows XML faults that this reports
    with path.open("rb") as file:
        store = tmxfile(file, sourcelanguage=source, targetlanguage=target)
    known: dict[str, Translation] = {}
    for unit in store.units:
        text, translated = unit.source, unit.gettarget(target)
        if not text or not translated or not translated.strip():
            continue
        noted = [
            prop.text
            for variant in unit.xmlelement.iterfind("{*}tuv")
            if variant.get(_XML_LANG) == target
            for prop in variant.iterfind("{*}prop")
            if prop.get("type") == _FLAW
        ]
        if known.setdefault(text, Translation(translated, tuple(noted))).text != translated:
            raise StudyError(
                f"{path}: {text!r} has two different {target} translations; keep one, the study needs one answer"
            )
    return known


def write_tmx(path: Path, source: str, units: Iterable[tuple[str, Mapping[str, Translation]]]) -> int:
    """Write (source text, target language to translation) units as TMX 1.4b, one at a time; returns their number.

    Flaws travel as properties, so that what a study dropped is dropped when it is replayed.
    """
    from lxml import etree

    count = 0
    header: dict[str, Any] = {
        "creationtool": "rmtransfer",
        "creationtoolversion": "1",
        "segtype": "block",
        "o-tmf": "rmtransfer",
        "adminlang": "en",
        "srclang": source,
        "datatype": "plaintext",
    }
    with etree.xmlfile(str(path), encoding="utf-8") as xml:
        xml.write_declaration()
        with xml.element("tmx", version="1.4"):
            xml.write(etree.Element("header", header), pretty_print=True)
            with xml.element("body"):
                for text, translations in units:
                    unit = etree.Element("tu")
                    for language, content in [(source, Translation(text)), *translations.items()]:
                        variant = etree.SubElement(unit, "tuv", {_XML_LANG: language})
                        for flaw in content.flaws:
                            etree.SubElement(variant, "prop", {"type": _FLAW}).text = flaw
                        etree.SubElement(variant, "seg").text = content.text
                    xml.write(unit)
                    xml.write("\n")
                    count += 1
    return count


class TranslationMemory:
    """Exact look-up in a TMX file; a text that it does not hold is an error, never a guess."""

    Options = Annotated[Text, Field(description="TMX file with every segment in every target language")]
    paid = runs_a_model = False
    needs_section = True
    lock = None
    splitting = Splitting("text", spans_inside=True, limit=0)

    def __init__(self, options: str, source: str, target: str, machine: Machine) -> None:
        self.path, self.source, self.target = machine.root / options, source, target
        self.scope = Scope("memory", {}, source, target)

    @staticmethod
    def check(options: str, target: str, study_bases: Collection[str], source: str, root: Path) -> Iterator[str]:
        """See :class:`rmtransfer.translation.Engine`."""
        if not (root / options).is_file():
            yield f"translation.memory: {options!r} does not exist; correct the path"
            return
        known = tmx_languages(root / options)
        for language in (source, target):
            if language not in known:
                yield (
                    f"languages: {language!r} is not in {options}, which holds {', '.join(sorted(known))}; add its "
                    "translations to the file or remove the language"
                )

    @staticmethod
    def files(options: str) -> list[str]:
        """See :class:`rmtransfer.translation.Engine`."""
        return [options]

    def safer(self) -> None:
        """There is no other answer."""

    def translate(self, prose: Sequence[str]) -> Iterator[dict[str, Translation]]:
        """See :class:`rmtransfer.translation.Engine`."""
        known = read_tmx(self.path, self.source, self.target)
        missing = [text for text in prose if text not in known]
        if missing:
            shown = [f"  {text!r}" for text in missing[:_SHOWN]]
            more = [f"  ... and {len(missing) - _SHOWN} more"] if len(missing) > _SHOWN else []
            raise StudyError(
                f"{self.path}: {len(missing)} of {len(prose)} segments have no {self.source} -> {self.target} translation:\n"
                + "\n".join([*shown, *more])
                + "\nAdd them to the memory, or remove the language from languages.targets."
            )
        yield {text: known[text] for text in prose}
