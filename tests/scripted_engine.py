"""An engine for tests of what surrounds engines. It imports no model library, so that a process with it starts at once."""

from pathlib import Path

from rmtransfer.translation import Machine
from rmtransfer.translation.store import Scope, Translation
from rmtransfer.translation.structure import Splitting

# What an engine is told of the machine, where a test does not care.
MACHINE = Machine(Path(), tokens_per_batch=4096, requests_at_once=4)


class Scripted:
    """An engine whose answers the test decides; it counts what it is asked."""

    def __init__(self, answer=str.upper, again=None, batch=2, careful=False):
        self.answer, self.again, self.batch = answer, again, batch
        self.source = self.target = "en"
        self.scope = Scope("scripted", {"careful": careful}, "en", "en")
        self.splitting = Splitting("sentence" if careful else "line", spans_inside=not careful, limit=1_000)
        self.lock = "scripted"
        self.asked = []
        self.retry = None

    def safer(self):
        if self.again is not None:
            self.retry = Scripted(self.again, careful=True)
        return self.retry

    def translate(self, prose):
        for start in range(0, len(prose), self.batch):
            batch = prose[start : start + self.batch]
            self.asked += batch
            answers = {text: self.answer(text) for text in batch}
            yield {t: a if isinstance(a, Translation) else Translation(a, billed=len(t)) for t, a in answers.items()}
