"""A worker as `bank worker` runs it, that says of each batch when it was applied; see `Burst`."""

import logging
import sys
import time

from pipeline.app import worker
from pipeline.support import event_loop
from pipeline.support.settings import load
from pipeline.tables.counters import Counters

_noted = Counters.batch
_documents: dict[int, int] = {}


def tell(began: float, events: int, documents: int) -> None:
    """One line: when it began and ended (monotonic clock, one for all processes), what was done,
    and the processor time of this process so far, all times in seconds."""
    now, used = time.monotonic(), time.process_time()
    sys.stdout.write(f"{began:.6f} {now:.6f} {events} {documents} {used:.6f}\n")
    sys.stdout.flush()


def _note(self: Counters, events: int, seconds: float) -> None:
    """Stands in the place of `Counters.batch`."""
    before, _documents[id(self)] = _documents.get(id(self), 0), self.documents
    tell(time.monotonic() - seconds, events, self.documents - before)
    _noted(self, events, seconds)


def main() -> None:
    """Run until killed or told to end."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    Counters.batch = _note  # type: ignore[method-assign]
    event_loop.run(worker(load()))


if __name__ == "__main__":
    main()
