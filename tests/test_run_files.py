import json
import os

import pytest

from sightline.journal import Journal, RunError
from sightline.run_files import append, atomic_write

RECIPE = {"name": "tiny", "out": "run"}


def made(folder):
    with Journal.create(folder, RECIPE, {}) as journal:
        for step in (1, 2):
            journal.metrics(step, {"loss/total": 0.5})
        journal.samples(2, [{"answer": "a cat"}])
        journal.watched([{"signal": "kl", "metric": "kl/reference", "above": 1.0, "rule": "x"}])
        journal.alarm(2, {"signal": "kl", "since": 1, "sentence": "kl rose"})
        journal.write_checkpoint(2, lambda place: (place / "weights.safetensors").write_bytes(b"weights") and None)
        journal.metrics(3, {"loss/total": 0.4})
    return Journal.open(folder)


def said(action, *arguments):
    with pytest.raises(RunError) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "read", "sentence"),
    [
        (
            "status.json",
            b"",
            "read_status",
            "status.json: is not JSON (Expecting value at column 1); put status.json back",
        ),
        ("status.json", b"[]", "read_status", "status.json: is no object"),
        ("status.json", b"{}", "read_status", "status.json: state is missing"),
        ("status.json", b"[" * 20_000, "read_status", "status.json: is nested more than 100 deep"),
        ("status.json", b'{"state": "\xff"}', "read_status", "status.json: is not UTF-8"),
        ("status.json", None, "read_status", "status.json: cannot be read (No such file or directory)"),
        ("metrics.jsonl", b'{"step": 1}\n{"st\n', "read_metrics", "metrics.jsonl:2: is not JSON"),
        ("metrics.jsonl", b'"x"\n', "read_metrics", "metrics.jsonl:1: is no object"),
        ("metrics.jsonl", b'{"loss": 1}\n', "read_metrics", "metrics.jsonl:1: step is missing"),
        ("metrics.jsonl", b'{"step": "one"}\n', "read_metrics", "metrics.jsonl:1: step is 'one'"),
        ("metrics.jsonl", b'{"step": 1, "loss": []}\n', "read_metrics", "metrics.jsonl:1: loss is '[]'"),
        ("samples.jsonl", b"null\n", "read_samples", "samples.jsonl:1: is no object"),
        ("alarms.jsonl", b'{"step": 1}\n', "read_alarms", "alarms.jsonl:1: signal is missing"),
        ("skipped.jsonl", b"5\n", "read_skipped", "skipped.jsonl:1: is no object"),
        ("watched.json", b"{}", "read_watched", "watched.json: is no list"),
        ("watched.json", b"[5]", "read_watched", "watched.json: entry 1: is no object"),
        ("watched.json", b'[{"signal": "kl", "metric": "a", "above": "x"}]', "read_watched", "entry 1: above is 'x'"),
        ("recipe.yaml", b"[" * 20_000, "recipe", "recipe.yaml: line 1: blocks are nested more than 50 deep"),
        ("recipe.yaml", b"- a", "recipe", "recipe.yaml: holds no keys; put the recipe of the run back"),
        ("recipe.yaml", b"a: !!bool maybe", "recipe", "recipe.yaml: line 1: the tag !!bool is not read"),
    ],
)
def test_a_damaged_file_is_one_sentence_that_names_it(tmp_path, name, content, read, sentence):
    journal = made(tmp_path / "run")
    path = tmp_path / "run" / name
    path.unlink(missing_ok=True) if content is None else path.write_bytes(content)
    assert sentence in said({"recipe": journal.recipe}.get(read) or vars(Journal)[read].__get__(journal))


@pytest.mark.parametrize("content", [b"[]", b"5", b"{}", b'{"files": []}', b'{"files": {}}', b"[" * 20_000, b"\xff"])
def test_a_damaged_manifest_is_one_sentence(tmp_path, content):
    journal = made(tmp_path / "run")
    checkpoint = journal.latest()
    (checkpoint / "manifest.json").write_bytes(content)
    assert "is damaged: manifest.json" in said(journal.verify, checkpoint)


def test_a_manifest_that_names_what_lies_outside_is_refused(tmp_path):
    journal = made(tmp_path / "run")
    checkpoint = journal.latest()
    (tmp_path / "secret").write_bytes(b"x")
    (checkpoint / "manifest.json").write_text(json.dumps({"files": {"../../../secret": {}}}))
    assert "names '../../../secret', which lies outside" in said(journal.verify, checkpoint)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes().replace(b"0.5", b"0.6", 1)),
        lambda path: path.write_bytes(path.read_bytes().split(b"\n", 1)[1]),
    ],
)
def test_a_run_does_not_go_on_over_rows_that_are_gone_or_changed(tmp_path, change):
    journal = made(tmp_path / "run")
    change(tmp_path / "run" / "metrics.jsonl")
    with journal:
        assert "metrics.jsonl: " in said(journal.rewind, 2)


def test_rows_after_the_checkpoint_are_dropped_and_those_before_are_untouched(tmp_path):
    journal = made(tmp_path / "run")
    with journal:
        journal.rewind(2)
    assert [row["step"] for row in journal.read_metrics()] == [1, 2]
    assert len(journal.read_alarms()) == len(journal.read_samples()) == 1


def test_a_lock_that_is_a_link_leaves_its_target_as_it_was(tmp_path):
    journal = made(tmp_path / "run")
    target = tmp_path / "precious"
    target.write_text("all of it")
    lock = tmp_path / "run" / ".lock"
    for link in (lock.symlink_to, lock.hardlink_to):
        lock.unlink()
        link(target)
        assert ".lock: is a link or no ordinary file, and a run writes into its own folder alone" in said(journal.lock)
        assert target.read_text() == "all of it"
    lock.unlink()
    os.mkfifo(lock)
    assert ".lock: is a link or no ordinary file" in said(journal.lock)
    lock.unlink()
    lock.mkdir()
    assert ".lock: is a folder" in said(journal.lock)


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "status.json", "checkpoints/step-000002/more", "pictures", "report.html"]
)
def test_a_run_with_a_link_in_it_is_not_written(tmp_path, name):
    journal = made(tmp_path / "run")
    outside = tmp_path / "outside"
    outside.write_text("kept\nwithout an end")
    path = tmp_path / "run" / name
    path.unlink(missing_ok=True)
    path.symlink_to(outside)
    assert f"{path}: is a link or no ordinary file" in said(journal.status, "running")
    assert outside.read_text() == "kept\nwithout an end"


def test_a_folder_of_checkpoints_that_is_a_link_is_not_cleared(tmp_path):
    journal = made(tmp_path / "run")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / ".partial-mine").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints").rename(tmp_path / "away")
    (tmp_path / "run" / "checkpoints").symlink_to(elsewhere)
    assert "checkpoints: is a link" in said(journal.lock)
    assert (elsewhere / ".partial-mine").is_dir()


def test_writes_never_follow_a_link(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("kept")
    (tmp_path / f".partial-a.json-{os.getpid()}").symlink_to(outside)
    (tmp_path / "a.json").symlink_to(outside)
    atomic_write(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "new"
    (tmp_path / "rows.jsonl").symlink_to(outside)
    with pytest.raises(OSError, match="symbolic"):
        append(tmp_path / "rows.jsonl", "more")
    assert outside.read_text() == "kept"


def test_a_file_is_written_into_a_folder_that_is_made(tmp_path):
    atomic_write(tmp_path / "a" / "b" / "c.json", "{}")
    assert (tmp_path / "a" / "b" / "c.json").read_text() == "{}"
