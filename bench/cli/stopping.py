"""Ctrl-C and SIGTERM end a command in the same way: what is under way is given up, what is done stays."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal asked this process to end. No KeyboardInterrupt, which typer would turn into an exit without a word."""

    def __init__(self, number: int) -> None:
        """``number``: the signal's."""
        self.number = number

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells have it: 130 or 143."""
        return 128 + self.number


@contextmanager
def stoppable() -> Iterator[None]:
    """Within the block, raise :class:`Stopped` in the main thread where a signal asks to end, unless it is ignored."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, _stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _: FrameType | None) -> None:
    raise Stopped(number)
