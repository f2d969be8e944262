import os
import signal
import threading

import pytest

from sightline.stopping import asked_to_stop, stop_at_once


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_answer_comes_while_one_long_instruction_runs(number):
    said, heard = [], threading.Event()

    def hear(text):
        said.append(text)
        heard.set()

    with asked_to_stop("finishing this update", say=hear) as stop:
        assert not stop()
        # in one instruction: the signal, and then nothing but waiting for the answer
        os.kill(os.getpid(), number), heard.wait(60)
        assert stop()
    assert said == ["finishing this update"]


def test_asking_again_stops_at_once_and_is_answered_once():
    said = []
    with asked_to_stop("finishing", say=said.append):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert said == ["finishing"]


def test_the_handlers_from_before_are_back_afterwards():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with asked_to_stop("finishing"), stop_at_once():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_terminated_process_closes_what_is_open():
    with pytest.raises(KeyboardInterrupt), stop_at_once():
        os.kill(os.getpid(), signal.SIGTERM)


def test_in_another_thread_nobody_can_ask():
    found = []

    def work():
        with stop_at_once(), asked_to_stop("finishing") as stop:
            found.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
