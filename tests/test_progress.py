import io
import re
import sys
import threading

import pytest

from sightline.progress import announced, clock_time, console_of, each, phase, say, shown


class Clock:
    """A clock that goes as far as it is told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Log(io.StringIO):
    """What is no terminal, and when each line was written to it."""

    def __init__(self, clock):
        super().__init__()
        self.clock, self.times = clock, []

    def write(self, text):
        self.times.append(self.clock.now)
        return super().write(text)

    @property
    def lines(self):
        return self.getvalue().splitlines()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(clock):
    return Log(clock)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_says_what_how_far_and_how_long(clock, log):
    with shown(to=log, clock=clock, beat=0), phase("reference", 1303) as opened:
        for _ in range(4):
            clock.now += 10
            opened.advance(80)
    assert log.lines == [
        "reference 160 of 1,303; 0:20 so far, 2:23 left",
        "reference 320 of 1,303; 0:40 so far, 2:03 left",
    ]


def test_no_advance_for_long_is_spoken_for_by_whoever_looks(clock, log):
    with shown(to=log, clock=clock, beat=0) as progress, announced("loading world:base"):
        for _ in range(60):
            clock.now += 1
            progress.look()
    assert log.lines[:2] == ["loading world:base ...", "loading world:base; 0:15 so far"]
    assert len(log.lines) == 5
    assert max(b - a for a, b in zip(log.times, [*log.times[1:], clock.now], strict=True)) <= 20


def test_what_happens_inside_a_step_names_the_step_that_is_made(clock, log):
    with shown(to=log, clock=clock, beat=0), phase("step", 36, done=6, numbered=True) as steps:
        with phase("micro-batch", 12) as parts:
            clock.now += 16
            parts.advance()
        clock.now += 16
        steps.advance(facts="loss 0.6931")
        clock.now += 32
        steps.advance(facts="loss 0.6800")
    assert log.lines == [
        "step 7 of 36: micro-batch 1 of 12; 0:16 so far",
        "step 7 of 36, loss 0.6931; 0:32 so far, 15:28 left",
        "step 8 of 36, loss 0.6800; 1:04 so far, 14:56 left",
    ]


def test_the_last_step_is_said_whether_a_line_is_due_or_not(clock, log):
    with shown(to=log, clock=clock, beat=0), phase("step", 2, numbered=True) as steps:
        steps.advance()
        steps.advance(facts="loss 0.5")
    assert log.lines == ["step 2 of 2, loss 0.5; 0:00 so far"]


def test_the_time_left_is_that_of_what_was_done_here_and_not_before_a_kill(clock, log):
    with shown(to=log, clock=clock, beat=0), phase("step", 100, done=50, numbered=True) as steps:
        clock.now += 20
        steps.advance()
    assert log.lines == ["step 51 of 100; 0:20 so far, 16:20 left"]


def test_before_the_first_phase_it_says_that_it_starts(clock, log):
    with shown(to=log, clock=clock, beat=0) as progress:
        clock.now += 16
        progress.look()
        with phase("reading data"):
            pass
        clock.now += 100  # a server that waits is not at work
        progress.look()
    assert log.lines == ["starting; 0:16 so far"]


def test_one_progress_inside_another_is_the_other(clock, log):
    with shown(to=log, clock=clock, beat=0) as outer, phase("DPO"), shown(to=sys.stderr) as inner, phase("step", 3):
        assert inner is outer
        clock.now += 15
        outer.look()
    assert log.lines == ["DPO: step 0 of 3; 0:15 so far"]


def test_the_thread_looks_by_itself(clock, log):
    class Seen(Log):
        def write(self, text):
            written.set()
            return super().write(text)

    written = threading.Event()
    log = Seen(clock)
    with shown(to=log, clock=clock, beat=0.001), phase("one long product"):
        clock.now += 20
        assert written.wait(60)
    assert log.lines[0] == "one long product; 0:20 so far"


def test_a_terminal_gets_one_bar_and_lines_above_it(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    terminal = Terminal()
    steps = phase("step", 36, done=6, numbered=True)
    with shown(to=terminal, clock=clock, beat=0) as progress, phase("SFT"), steps as opened:
        say("going on from step 6 of 36")
        clock.now += 5
        opened.advance(facts="loss 0.69")
        progress.look()
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "going on from step 6 of 36\n" in drawn
    assert "SFT: step 7 of 36, loss 0.69" in drawn
    assert "0:05 so far, 2:25 left" in drawn


def test_nothing_is_shown_where_nobody_asked_to_see_it(capsys):
    with phase("step", 3) as steps:
        steps.advance()
    assert list(each([1, 2], "rows")) == [1, 2]
    assert capsys.readouterr().out == ""


def test_what_is_said_is_said_by_the_first_process_alone(capsys, monkeypatch):
    say("first")
    monkeypatch.setenv("RANK", "1")
    say("second")
    with shown(beat=0):
        say("third")
    assert capsys.readouterr().out == "first\n"


def test_each_advances_and_ends_with_its_items(clock, log):
    with shown(to=log, clock=clock, beat=0):
        for _ in each(range(3), "reading data", 3):
            clock.now += 15
    assert log.lines == [
        "reading data 1 of 3; 0:15 so far, 0:30 left",
        "reading data 2 of 3; 0:30 so far, 0:15 left",
        "reading data 3 of 3; 0:45 so far",
    ]


def test_a_reader_that_left_does_not_stop_the_work(clock):
    log = io.StringIO()
    with shown(to=log, clock=clock, beat=0.001), phase("training"):
        log.close()
        clock.now += 20


def test_lines_are_not_wrapped_where_there_is_no_terminal(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    log = io.StringIO()
    console_of(log).print("word " * 100)
    assert log.getvalue().count("\n") == 1


@pytest.mark.parametrize(("seconds", "said"), [(0, "0:00"), (42.4, "0:42"), (125, "2:05"), (3723, "1:02:03")])
def test_seconds_are_said_as_a_clock_does(seconds, said):
    assert clock_time(seconds) == said
