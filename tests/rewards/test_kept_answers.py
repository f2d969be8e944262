"""Replies on disk: found again, torn lines dropped, one writer at a time."""

import json
from pathlib import Path

import pytest

from sightline.records import Image, Message
from sightline.rewards.ask import Question, Reply
from sightline.rewards.kept_answers import FILE, KeptAnswers

QUESTION = Question(messages=(Message(role="user", content=(Image(data=b"png"), "Is it?")),))
REPLIES = [
    Reply(text="yes", prompt_tokens=3, completion_tokens=1),
    Reply(text="line\nbreak, ünïcode, half \ud83d", finished=False),
    Reply(text=None, refused=True),
]


def put(kept: KeptAnswers, replies: list[Reply]) -> None:
    kept.put([(f"key-{number}", QUESTION, reply) for number, reply in enumerate(replies)])


def test_replies_are_found_again_by_the_next_process(tmp_path: Path):
    with KeptAnswers(tmp_path / "deep" / "cache") as kept:
        put(kept, REPLIES)
        assert kept.get("key-1") is not None
    with KeptAnswers(tmp_path / "deep" / "cache") as kept:
        assert len(kept) == 3
        for number, reply in enumerate(REPLIES):
            found = kept.get(f"key-{number}")
            assert found is not None
            assert found.cached
            same = ("text", "refused", "finished", "prompt_tokens", "completion_tokens", "problem")
            assert [getattr(found, name) for name in same] == [getattr(reply, name) for name in same]
        assert kept.get("other") is None


def test_rows_can_be_read_by_people(tmp_path: Path):
    with KeptAnswers(tmp_path) as kept:
        put(kept, REPLIES[:1])
    row = json.loads((tmp_path / FILE).read_text())
    assert row["text"] == "yes"
    assert row["asked"]["messages"][0]["content"][1] == {"text": "Is it?"}
    assert len(row["asked"]["messages"][0]["content"][0]["image"]) == 64


@pytest.mark.parametrize("torn", [b'{"key": "x', b"\x00\x00", b'{"key": "x", "text": "whole but no end of line"}'])
def test_a_torn_last_line_is_dropped_and_writing_goes_on(torn: bytes, tmp_path: Path):
    with KeptAnswers(tmp_path) as kept:
        put(kept, REPLIES[:2])
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole + torn)
    with KeptAnswers(tmp_path) as kept:
        assert len(kept) == 2
        kept.put([("new", QUESTION, Reply(text="later"))])
    with KeptAnswers(tmp_path) as kept:
        assert len(kept) == 3
        found = kept.get("new")
        assert found is not None
        assert found.text == "later"
    assert (tmp_path / FILE).read_bytes().startswith(whole)


def test_a_second_writer_is_refused_with_the_cure(tmp_path: Path):
    with (
        KeptAnswers(tmp_path),
        pytest.raises(ValueError, match=r"is being written by another process \(id \d+\); wait"),
    ):
        KeptAnswers(tmp_path)
    KeptAnswers(tmp_path).close()


def test_a_folder_that_cannot_be_and_a_file_of_others_are_refused(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"cannot keep replies: .* is a file; name another folder"):
        KeptAnswers(tmp_path / "file" / "below")
    with KeptAnswers(tmp_path) as kept:
        put(kept, REPLIES[:1])
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text() + "nothing\n")
    with pytest.raises(ValueError, match="line 2 is no kept reply; remove that line"):
        KeptAnswers(tmp_path)


@pytest.mark.parametrize("name", [FILE, ".lock"])
def test_a_link_is_not_written_through(name: str, tmp_path: Path):
    (tmp_path / "precious").write_text("without an end of line")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / name).symlink_to(tmp_path / "precious")
    for _ in range(2):  # the first refusal lets the lock go
        with pytest.raises(ValueError, match="is a link, and what it leads to would be written; remove it"):
            KeptAnswers(tmp_path / "cache")
    assert (tmp_path / "precious").read_text() == "without an end of line"


@pytest.mark.parametrize(
    "change",
    [{"text": 5}, {"refused": "no"}, {"finished": None}, {"prompt_tokens": -1}, {"prompt_tokens": True},
     {"completion_tokens": 10**400}, {"key": ["x"]}],
)  # fmt: skip
def test_a_line_that_was_damaged_is_refused_when_the_folder_is_opened(change: dict[str, object], tmp_path: Path):
    with KeptAnswers(tmp_path) as kept:
        put(kept, REPLIES[:2])
    first, second = (tmp_path / FILE).read_text().splitlines()
    (tmp_path / FILE).write_text(f"{first}\n{json.dumps(json.loads(second) | change)}\n")
    with pytest.raises(ValueError, match=r"answers.jsonl: line 2 is no kept reply; remove that line"):
        KeptAnswers(tmp_path)


@pytest.mark.parametrize("line", ["[" * 100_000, '{"key": "x"}', "{}", "5", '{"key": "x", "text": ' + "9" * 5000 + "}"])
def test_a_line_that_is_no_reply_at_all_is_refused(line: str, tmp_path: Path):
    (tmp_path / FILE).write_text(f"{line}\n")
    with pytest.raises(ValueError, match="line 1 is no kept reply"):
        KeptAnswers(tmp_path)
