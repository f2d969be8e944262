"""How far everything is: one bar with phases on a terminal, elsewhere a line at least every twenty seconds.

Whoever works opens a phase and advances it; phases open inside phases, so that the sampler can say "answer token 40 of
256" inside the trainer's "step 7 of 36" and neither knows of the other. Nothing is shown until `shown` is entered
(the commands do, and `build.train`): a library call by itself says nothing.

A line is written when somebody advances and it is due. Work that cannot advance (weights being read, one long product)
is spoken for by a thread that looks once a second and repeats what is under way, and for how long. The clock is handed
in. Knows nothing of runs, models or terminals' control codes.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

Say = Callable[[str], None]
Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 15.0
SECONDS_BETWEEN_LOOKS = 1.0
WIDE = 10_000
"""Columns of what is no terminal: no line is wrapped there."""


class Phase:
    """Something under way: its name, how much of it is done, and since when."""

    def __init__(self, progress: "Shown", name: str, total: int | None, done: int, numbered: bool) -> None:
        """Made by `phase`."""
        self._progress = progress
        self.name, self.total, self.done = name, total, done
        self.numbered = numbered
        self.facts = ""
        self.began = self.at = progress.clock()
        self.start = done
        self.first: tuple[int, float] | None = None

    def advance(self, num: int = 1, facts: str = "") -> None:
        """So many more are done."""
        self.reach(self.done + num, facts=facts)

    def reach(self, done: int, *, total: int | None = None, facts: str = "") -> None:
        """So many are done by now."""
        self.done, self.facts = done, facts
        self.total = self.total if total is None else total
        self.at = self._progress.clock()
        self._progress.advanced(self)
        self.first = self.first or (done, self.at)

    def left(self, now: float) -> float | None:
        """Seconds to go at the speed so far, the first advance left out where there are more; None while unknown."""
        if self.total is None or self.done <= self.start:
            return None
        done, since = self.first if self.first is not None and self.done > self.first[0] else (self.start, self.began)
        if self.done <= done:
            return None
        left = (self.at - since) / (self.done - done) * (self.total - self.done) - (now - self.at)
        return left if left > 0 else None

    def said(self, *, inside: bool) -> str:
        """What is under way: "reference 320 of 1,303"; of numbered steps, the one that is being made."""
        if self.total is None:
            return f"{self.name} {self.done:,}" if self.done else self.name
        number = min(self.done + 1, self.total) if self.numbered and inside else self.done
        return f"{self.name} {number:,} of {self.total:,}"


class Shown:
    """Where progress goes. State: the phases that are open, when the last line was written."""

    def __init__(self, file: TextIO | None, clock: Callable[[], float], *, bar: bool = True) -> None:
        """`file` is a terminal or not; None says nothing at all. What is printed on `console` stands above the bar."""
        self.clock = clock
        self.last = clock()
        self.phases: list[Phase] = []
        self._began: float | None = self.last
        self._file = file
        self._lock = threading.RLock()
        self.console = Console(quiet=True) if file is None else console_of(file)
        self._terminal = self.console if bar and self.console.is_terminal and file is not None else None
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def say(self, text: str) -> None:
        """A line of its own, seen at once."""
        if self._file is None:
            return
        with self._lock:
            if self._bar is None:
                self._write(text)
            else:
                self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def open(self, name: str, total: int | None, done: int, numbered: bool) -> Phase:
        """A phase inside those that are open."""
        phase = Phase(self, name, total, done, numbered)
        if self._file is not None:
            with self._lock:
                self._began = None
                self.phases.append(phase)
                self.look()
        return phase

    def close(self, phase: Phase) -> None:
        """It is over."""
        with self._lock:
            if phase in self.phases:
                self.phases.remove(phase)
                self._draw()

    def advanced(self, phase: Phase) -> None:
        """A phase moved on: the bar is drawn, or a line written when it is due or a numbered phase ends."""
        if self._file is None:
            return
        with self._lock:
            self._draw()
            ended = phase.numbered and phase.done == phase.total
            if self._terminal is None and (ended or self._due()):
                self._write(self._line(upto=phase))

    def look(self) -> None:
        """Draw the bar anew, or write a line when nothing was written for too long; what the thread calls."""
        with self._lock:
            self._draw()
            if self._bar is not None:
                self._bar.refresh()
            elif self._terminal is None and self._due():
                if self.phases:
                    self._write(self._line())
                elif self._began is not None:  # before the first phase: libraries are being read
                    self._write(f"starting; {clock_time(self.clock() - self._began)} so far")

    def end(self) -> None:
        """Take the bar away."""
        with self._lock:
            self.phases.clear()
            self._draw()

    def _due(self) -> bool:
        return self.clock() - self.last >= SECONDS_BETWEEN_LINES

    def _write(self, text: str) -> None:
        assert self._file is not None
        self._file.write(f"{text}\n")
        self._file.flush()
        self.last = self.clock()

    def _line(self, upto: Phase | None = None) -> str:
        """What is under way, outermost first, with the time so far and left of what is counted outermost."""
        open_ones = self.phases[: self.phases.index(upto) + 1] if upto in self.phases else self.phases
        said = [phase.said(inside=phase is not upto) for phase in open_ones]
        facts = f", {upto.facts}" if upto is not None and upto.facts else ""
        return f"{': '.join(said)}{facts}; {self._times(self._main(open_ones))}"

    def _main(self, phases: list[Phase]) -> Phase:
        return next((phase for phase in phases if phase.total is not None), phases[0])

    def _times(self, main: Phase) -> str:
        now = self.clock()
        left = main.left(now)
        return f"{clock_time(now - main.began)} so far" + (f", {clock_time(left)} left" if left is not None else "")

    def _draw(self) -> None:
        """The one bar: the outermost count, and in words all that is open; none while nothing is."""
        if self._terminal is None:
            return
        if not self.phases:
            if self._bar is not None:
                self._bar.stop()
            self._bar = None
            return
        if self._bar is None:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[times]}"))
            self._bar = Progress(*columns, console=self._terminal, transient=True)
            self._task = self._bar.add_task("", total=None, times="")
            self._bar.start()
        main = self._main(self.phases)
        said = ": ".join(phase.said(inside=phase is not self.phases[-1]) for phase in self.phases)
        facts = next((phase.facts for phase in reversed(self.phases) if phase.facts), "")
        self._bar.update(
            self._task,
            description=f"{said}, {facts}" if facts else said,
            total=main.total,
            completed=main.done,
            times=self._times(main),
        )


_SILENT = Shown(None, time.monotonic)
_current: list[Shown] = []


@contextmanager
def shown(
    *,
    to: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
    beat: float = SECONDS_BETWEEN_LOOKS,
    bar: bool = True,
) -> Iterator[Shown]:
    """Show the phases that open inside, on stdout or on `to`; inside another one, that one goes on.

    Of several processes that a launcher started the first one speaks. `beat` is how often the thread looks; 0 starts
    none. Without `bar` a terminal gets lines too.
    """
    if _current:
        yield _current[-1]
        return
    file = (to or sys.stdout) if os.environ.get("RANK", "0") == "0" else None
    progress = Shown(file, clock, bar=bar)
    over = threading.Event()
    _current.append(progress)
    try:
        if file is not None and beat > 0:
            threading.Thread(target=_watch, args=(progress, over, beat), name="progress", daemon=True).start()
        yield progress
    finally:
        over.set()
        progress.end()
        _current.remove(progress)


@contextmanager
def phase(name: str, total: int | None = None, *, done: int = 0, numbered: bool = False) -> Iterator[Phase]:
    """Something under way, which the block advances; `numbered` where each one takes long: "step 7 of 36"."""
    progress = _current[-1] if _current else _SILENT
    opened = progress.open(name, total, done, numbered)
    try:
        yield opened
    finally:
        progress.close(opened)


@contextmanager
def announced(name: str) -> Iterator[None]:
    """Something that takes its time, said before it begins: "loading world:base ..."."""
    if _current:
        _current[-1].say(f"{name} ...")
    with phase(name):
        yield


def each(items: Iterable[Item], name: str, total: int | None = None) -> Iterator[Item]:
    """The items, with a phase that advances as they are done with."""
    with phase(name, total) as opened:
        for item in items:
            yield item
            opened.advance()


def say(text: str) -> None:
    """A line, seen at once in a pipe too, and above the bar where there is one."""
    if _current:
        _current[-1].say(text)
    elif os.environ.get("RANK", "0") == "0":
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def console_of(file: TextIO | None = None) -> Console:
    """A console on stdout or on a file; where that is no terminal, lines are as long as they are."""
    found = Console(file=file)
    if found.is_terminal or "COLUMNS" in os.environ:
        return found
    return Console(file=file, width=WIDE)


def clock_time(seconds: float) -> str:
    """Seconds as 0:42 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _watch(progress: Shown, over: threading.Event, beat: float) -> None:
    while not over.wait(beat):
        try:
            progress.look()
        except (OSError, ValueError):  # the reader left, or the file was closed
            return
