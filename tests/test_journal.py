import errno
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import SafetensorError

from sightline import journal as journal_module
from sightline.journal import Journal, RunError, RunFailed, atomic_write, step_of

RECIPE = {"name": "tiny", "objective": {"kind": "dpo", "beta": 0.1}}


@pytest.fixture
def journal(tmp_path: Path):
    with Journal.create(tmp_path / "runs" / "tiny", RECIPE, {"python": "3"}) as journal:
        yield journal


def fill(text: str):
    """A write function for a checkpoint with one file inside a folder and one beside it."""

    def write(folder: Path) -> None:
        (folder / "model").mkdir()
        (folder / "model" / "weights.safetensors").write_text(text * 1000)
        (folder / "state.json").write_text(json.dumps(text))

    return write


def fail_with(error: Exception):
    def write(folder: Path) -> None:
        (folder / "half.bin").write_bytes(b"x" * 100)
        raise error

    return write


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Making and finding a run


def test_a_new_run_has_recipe_environment_and_status(journal):
    assert journal.recipe() == RECIPE
    assert json.loads((journal.folder / "environment.json").read_text()) == {"python": "3"}
    assert journal.read_status()["state"] == "running"
    assert Journal.open(journal.folder).recipe() == RECIPE


def test_a_run_runs_while_its_lock_is_held_and_is_interrupted_afterwards(journal):
    journal.write_checkpoint(7, lambda folder: None)
    journal.status("running", step=9)
    other = Journal.open(journal.folder)
    assert other.read_status()["state"] == "running"
    assert other.read_status()["state"] == "running", "looking must not let the lock go"
    journal.close()
    status = other.read_status()
    assert (status["state"], status["step"]) == ("interrupted", 7)


def test_a_start_without_a_checkpoint_is_none(journal):
    journal.metrics(1, {"loss/dpo": 0.5})
    journal.skipped([{"file": "a.jsonl"}])
    (journal.folder / "notes.txt").write_text("mine")
    journal.close()
    again = Journal.create(journal.folder, RECIPE | {"seed": 5}, {})
    assert again.recipe() == RECIPE | {"seed": 5}
    assert again.read_metrics() == []
    assert again.read_skipped() == []
    assert (journal.folder / "notes.txt").read_text() == "mine"


def test_a_folder_with_a_run_is_not_taken_for_another(journal):
    journal.write_checkpoint(1, lambda folder: None)
    with pytest.raises(
        RunError, match=r"already holds a run; go on with `sightline resume .*`, or choose another --out"
    ):
        Journal.create(journal.folder, RECIPE, {})


def test_a_kill_before_the_recipe_was_written_leaves_a_folder_that_can_be_used(tmp_path):
    (tmp_path / "environment.json").write_text("{}")
    (tmp_path / ".partial-recipe.yaml-1").write_text("na")
    with pytest.raises(RunError, match=r"holds no run \(no recipe.yaml\); name the folder"):
        Journal.open(tmp_path)
    Journal.create(tmp_path, RECIPE, {}).close()
    assert Journal.open(tmp_path).recipe() == RECIPE
    assert not list(tmp_path.glob(".partial-*"))


def test_a_folder_that_is_not_there_or_is_a_file_is_refused(tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        Journal.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file; choose another --out"):
        Journal.create(tmp_path / "file" / "run", RECIPE, {})


# Rows


def test_metrics_come_back_as_they_went_in(journal):
    journal.metrics(1, {"loss/dpo": 0.1 + 0.2, "reward/mean": 1e-17})
    journal.metrics(2, {"loss/dpo": math.nan, "reward/mean": math.inf})
    first, second = journal.read_metrics()
    assert first == {"step": 1, "loss/dpo": 0.1 + 0.2, "reward/mean": 1e-17}
    assert math.isnan(second["loss/dpo"])
    assert "NaN" not in (journal.folder / "metrics.jsonl").read_text()


def test_a_torn_last_line_is_left_out_and_then_dropped(journal):
    journal.metrics(1, {"loss/dpo": 0.5})
    journal.close()
    with (journal.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step":2,"loss/d')
    again = Journal.open(journal.folder)
    assert [row["step"] for row in again.read_metrics()] == [1]
    again.metrics(2, {"loss/dpo": 0.4})
    assert [row["step"] for row in again.read_metrics()] == [1, 2]


def test_a_run_without_rows_reads_as_empty(journal):
    assert (journal.read_metrics(), journal.read_samples(), journal.read_skipped()) == ([], [], [])


def test_samples_keep_their_text_on_one_line(journal):
    journal.samples(3, [{"text": "a red\ncircle é\u2028 end"}, {"text": "b"}])
    assert journal.read_samples() == [
        {"step": 3, "text": "a red\ncircle é\u2028 end"},
        {"step": 3, "text": "b"},
    ]
    assert (journal.folder / "samples.jsonl").read_text().count("\n") == 2


def test_alarms_and_what_was_watched_come_back_and_alarms_are_rewound(journal):
    assert (journal.read_watched(), journal.read_alarms()) == ([], [])
    journal.watched([{"signal": "kl", "metric": "kl/reference", "above": 0.5}])
    journal.alarm(3, {"signal": "kl", "since": 2, "sentence": "kl: far"})
    journal.alarm(5, {"signal": "kl", "since": 5, "sentence": "kl: far again"})
    assert journal.read_watched() == [{"signal": "kl", "metric": "kl/reference", "above": 0.5}]
    journal.rewind(4)
    assert journal.read_alarms() == [{"step": 3, "signal": "kl", "since": 2, "sentence": "kl: far"}]


def test_skipped_rows_are_listed_once_however_often_the_data_is_read(journal):
    for _ in range(2):
        journal.skipped([{"file": "a.jsonl", "line": 3, "problem": "empty answer"}])
    assert journal.read_skipped() == [{"file": "a.jsonl", "line": 3, "problem": "empty answer"}]


def test_a_full_disk_under_metrics_is_one_sentence_that_says_how_to_go_on():
    full = Path("/dev/full")
    if not full.is_char_device():
        pytest.skip("no /dev/full")
    journal = Journal(Path("/dev"))
    journal.lock = lambda: None
    with pytest.raises(RunFailed, match=r"could not be written \(No space left on device\); make room and go on with"):
        journal._append("full", [{"step": 1}])


def test_status_says_how_the_run_stands(journal):
    journal.status("interrupted", step=120)
    assert journal.read_status()["state"] == "interrupted"
    assert journal.read_status()["step"] == 120


# Checkpoints


def test_a_checkpoint_appears_whole_with_its_manifest(journal):
    path = journal.write_checkpoint(100, fill("a"))
    assert path.name == "step-000100"
    assert names(path) == ["manifest.json", "model", "state.json"]
    assert sorted(json.loads((path / "manifest.json").read_text())["files"]) == [
        "model/weights.safetensors",
        "state.json",
    ]
    journal.verify(path)
    assert journal.latest() == path
    assert step_of(path) == 100


def test_checkpoints_are_sorted_by_step_even_past_six_digits(journal):
    for step in (1_000_000, 5, 200_000):
        journal.write_checkpoint(step, fill("a"))
    assert [step_of(path) for path in journal.checkpoints()] == [5, 200_000, 1_000_000]


def test_no_checkpoint_yet(journal):
    assert journal.checkpoints() == []
    assert journal.latest() is None


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
    ids=["oserror", "safetensors"],
)
def test_a_full_disk_leaves_the_older_checkpoint_and_nothing_half_written(journal, error):
    old = journal.write_checkpoint(50, fill("old"))
    with pytest.raises(RunFailed) as caught:
        journal.write_checkpoint(100, fail_with(error))
    message = str(caught.value)
    assert "\n" not in message
    assert "No space left on device" in message
    assert "step-000050 stands untouched; make room and go on with `sightline resume" in message
    assert names(journal.folder / "checkpoints") == ["step-000050"]
    journal.verify(old)
    journal.write_checkpoint(100, fill("new"))
    assert journal.latest() == journal.folder / "checkpoints" / "step-000100"


def test_a_full_disk_at_the_first_checkpoint_says_that_there_is_none(journal):
    with pytest.raises(RunFailed, match="there is no earlier checkpoint"):
        journal.write_checkpoint(1, fail_with(OSError(28, "No space left on device")))


def test_an_error_or_a_ctrl_c_inside_the_writer_passes_through_and_leaves_nothing(journal):
    for error in (KeyError("weights"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            journal.write_checkpoint(1, fail_with(error))
    assert names(journal.folder / "checkpoints") == []


def test_what_a_kill_left_half_written_is_cleared_by_the_next_writer(journal):
    journal.write_checkpoint(50, fill("a"))
    journal.close()
    partial = journal.folder / "checkpoints" / ".partial-step-000100-4242"
    partial.mkdir()
    (partial / "weights").write_text("half")
    again = Journal.open(journal.folder)
    assert [step_of(path) for path in again.checkpoints()] == [50]
    again.lock()
    assert names(journal.folder / "checkpoints") == ["step-000050"]


def test_a_sound_checkpoint_of_the_same_step_is_kept_and_a_damaged_one_replaced(journal):
    path = journal.write_checkpoint(50, fill("a"))
    journal.write_checkpoint(50, fill("b"))
    assert json.loads((path / "state.json").read_text()) == "a"
    (path / "state.json").write_text('"c"')
    journal.write_checkpoint(50, fill("b"))
    assert json.loads((path / "state.json").read_text()) == "b"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("state.json", '"b"', "state.json is not the file that was written"),
        ("state.json", "longer than before", "state.json is not the file that was written"),
        ("state.json", None, "state.json is missing"),
        ("manifest.json", "{", "manifest.json is missing or cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_refused_with_the_cure(journal, name, content, problem):
    path = journal.write_checkpoint(50, fill("a"))
    if content is None:
        (path / name).unlink()
    else:
        (path / name).write_text(content)
    with pytest.raises(RunError, match=f"is damaged: {problem}; remove that folder, then `sightline resume"):
        journal.verify(path)


def test_prune_keeps_the_last_and_the_best(journal):
    for step in (10, 20, 30, 40):
        journal.write_checkpoint(step, fill("a"))
    journal.prune(2, {10})
    assert names(journal.folder / "checkpoints") == ["step-000010", "step-000030", "step-000040"]
    journal.prune(1)
    assert names(journal.folder / "checkpoints") == ["step-000040"]


def test_rewind_drops_what_came_after(journal):
    for step in (0, 1, 2, 2, 3):
        journal.metrics(step, {"loss/dpo": float(step)})
        journal.samples(step, [{"text": "x"}])
    for step in (1, 2, 3):
        journal.write_checkpoint(step, fill("a"))
    journal.rewind(2)
    assert [row["step"] for row in journal.read_metrics()] == [0, 1, 2, 2]
    assert [row["step"] for row in journal.read_samples()] == [0, 1, 2, 2]
    assert [step_of(path) for path in journal.checkpoints()] == [1, 2]
    journal.rewind(-1)
    assert journal.read_metrics() == []
    assert journal.checkpoints() == []


def test_rewound_metrics_are_byte_for_byte_those_of_an_uninterrupted_run(tmp_path):
    values = [{"loss/dpo": 1 / (step + 3), "policy/kl": 1e-9 * step} for step in range(6)]
    straight = Journal.create(tmp_path / "straight", RECIPE, {})
    broken = Journal.create(tmp_path / "broken", RECIPE, {})
    for step in range(6):
        straight.metrics(step, values[step])
    for step in (0, 1, 2, 3):
        broken.metrics(step, values[step])
    broken.rewind(1)
    for step in (2, 3, 4, 5):
        broken.metrics(step, values[step])
    texts = [(journal.folder / "metrics.jsonl").read_bytes() for journal in (straight, broken)]
    assert texts[0] == texts[1]


# The lock


WRITER = """
import sys
from sightline.journal import Journal, RunError
try:
    journal = Journal.open(sys.argv[1])
    journal.read_metrics()
    journal.lock()
except RunError as error:
    sys.exit(str(error))
"""


def test_a_second_process_may_read_but_not_write(journal):
    done = subprocess.run([sys.executable, "-c", WRITER, journal.folder], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    expected = f"is being written by another process (id {os.getpid()}); wait until it ends, or stop it first"
    assert expected in done.stderr
    journal.close()
    assert subprocess.run([sys.executable, "-c", WRITER, journal.folder], check=False).returncode == 0


# A real kill


LOOP = """
import sys
from pathlib import Path
from sightline.journal import Journal

journal = Journal.open(sys.argv[1])
last = journal.latest()
step = int(last.name[5:]) if last else -1
journal.rewind(step)

def write(folder):
    for name in "abcd":
        (folder / name).write_bytes(b"x" * 200_000)

print("going", flush=True)
while True:
    step += 1
    journal.metrics(step, {"loss/dpo": 1 / (step + 1)})
    journal.status("running", step=step)
    journal.write_checkpoint(step, write)
    journal.prune(2)
"""


def test_no_kill_leaves_a_folder_that_cannot_be_resumed(tmp_path):
    Journal.create(tmp_path, RECIPE, {}).close()
    chance = random.Random(0)
    for _ in range(8):
        command = [sys.executable, "-c", LOOP, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "going\n"
            time.sleep(chance.uniform(0.02, 0.2))
            child.send_signal(signal.SIGKILL)
        journal = Journal.open(tmp_path)
        checkpoints = journal.checkpoints()
        for checkpoint in checkpoints:
            journal.verify(checkpoint)
        assert len(checkpoints) <= 3
        steps = [row["step"] for row in journal.read_metrics()]
        assert steps == list(range(len(steps)))
        if checkpoints:
            assert step_of(checkpoints[-1]) in (len(steps) - 1, len(steps) - 2)
        status = journal.read_status()
        assert (status["state"], status["step"]) == ("interrupted", step_of(checkpoints[-1]) if checkpoints else 0)
    assert checkpoints


# Atomic files


def test_atomic_write_leaves_the_old_file_when_the_disk_is_full(tmp_path, monkeypatch):
    path = tmp_path / "status.json"
    atomic_write(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(journal_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, "new")
    assert names(tmp_path) == ["status.json"]
    assert path.read_text() == "old"


def test_atomic_write_takes_bytes_and_replaces(tmp_path):
    path = tmp_path / "picture.png"
    for content in (b"\x89PNG", b"other"):
        atomic_write(path, content)
    assert path.read_bytes() == b"other"


def test_what_was_measured_before_the_first_update_is_no_update(tmp_path: Path):
    with Journal.create(tmp_path / "run", {"name": "r"}, {}) as journal:
        journal.metrics(0, {"validation/loss/total": 0.7})
        journal.metrics(1, {"batch/tokens": 40.0})
    assert [row["step"] for row in journal.read_metrics()] == [0, 1]
    assert [row["step"] for row in journal.read_updates()] == [1]
