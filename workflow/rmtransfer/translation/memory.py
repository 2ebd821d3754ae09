"""Engine ``memory``: replay a TMX translation memory, word for word.

TMX 1.4b: https://www.gala-global.org/tmx-14b
"""

from collections.abc import Sequence
from pathlib import Path

from lxml import etree

from rmtransfer.errors import StudyError

_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_SHOWN = 10


def tmx_languages(path: Path) -> set[str]:
    """The languages of which a TMX file holds at least one segment.

    Raises:
        StudyError: the file is not well-formed XML, with the place of the fault.
    """
    try:
        elements = etree.iterparse(str(path), tag="tuv", load_dtd=False, no_network=True)
        return {code for _, tuv in elements if (code := tuv.get(_XML_LANG) or tuv.get("lang"))}
    except etree.XMLSyntaxError as problem:
        raise StudyError(f"{path}: not a well-formed TMX file ({problem.msg}); export it again") from problem


class TranslationMemory:
    """Exact look-up in a TMX file; a text that it does not hold is an error, never a guess."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str]:
        """See :class:`rmtransfer.translation.Engine`."""
        known = self._load(source, target)
        missing = [text for text in texts if text not in known]
        if missing:
            shown = [f"  {text!r}" for text in missing[:_SHOWN]]
            more = [f"  ... and {len(missing) - _SHOWN} more"] if len(missing) > _SHOWN else []
            raise StudyError(
                f"{self.path}: {len(missing)} of {len(texts)} segments have no {source} -> {target} translation:\n"
                + "\n".join([*shown, *more])
                + "\nAdd them to the memory, or remove the language from languages.targets."
            )
        return [known[text] for text in texts]

    def _load(self, source: str, target: str) -> dict[str, str]:
        from translate.storage.tmx import tmxfile

        tmx_languages(self.path)  # the toolkit swallows XML faults that this reports
        with self.path.open("rb") as file:
            store = tmxfile(file, sourcelanguage=source, targetlanguage=target)
        known: dict[str, str] = {}
        for unit in store.units:
            text, translated = unit.source, unit.gettarget(target)
            if not text or not translated or not translated.strip():
                continue
            if known.setdefault(text, translated) != translated:
                raise StudyError(
                    f"{self.path}: {text!r} has two different {target} translations; keep one, the study needs one answer"
                )
        return known
