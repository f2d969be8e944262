"""Ctrl-C and SIGTERM: answered at once, obeyed after what is under way, or at once when asked again.

Python runs a signal's handler between two of its own instructions, and a backward pass can be one instruction that
takes half a minute. So the answer is given by a thread that the signal itself wakes (`signal.set_wakeup_fd`), and the
handler only notes that somebody asked.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from sightline.progress import Say, say

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_at_once() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: with KeyboardInterrupt, so that what is open is closed."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handled(stop, (signal.SIGTERM,)):
        yield


@contextmanager
def asked_to_stop(answer: str, *, say: Say = say) -> Iterator[Callable[[], bool]]:
    """Whether somebody asked to stop; the first time gets `answer` at once, a second time raises KeyboardInterrupt.

    Signals reach the main thread alone: in another one nobody can ask.
    """
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if len(asked) > 1:
            raise KeyboardInterrupt

    with _handled(ask, SIGNALS), _answered(answer, say):
        yield lambda: bool(asked)


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None], numbers: tuple[int, ...]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, other in before.items():
            signal.signal(number, other)


@contextmanager
def _answered(answer: str, say: Say) -> Iterator[None]:
    """A thread says the answer when the first signal comes, whatever the main thread does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, rung = os.pipe()
    os.set_blocking(rung, False)
    listener = threading.Thread(target=_listen, args=(heard, answer, say), name="stopping", daemon=True)
    before = signal.set_wakeup_fd(rung, warn_on_full_buffer=False)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        os.close(rung)
        listener.join(1.0)  # but for one that nobody lets write
        os.close(heard)


def _listen(heard: int, answer: str, say: Say) -> None:
    """Read the numbers of signals until the other end is closed."""
    told = False
    while number := os.read(heard, 1):
        if not told and number[0] in SIGNALS:
            told = True
            say(answer)
