import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pyarrow
import pyarrow.parquet
import pytest

from sightline.data import parquet
from sightline.data.files import MEDIA_TOKENS, BadRow, read_groups, write_groups
from sightline.records import Completion, Group, Image, Message, Pair, Prompt, RecordError, Reward


def png(colour: str) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (4, 3), colour).save(file, "PNG")
    return file.getvalue()


def group(name: str = "7", **changes: object) -> Group:
    whole = Group(
        prompt=Prompt(
            id=name,
            task="describe",
            messages=(
                Message(role="system", content=("Be brief.",)),
                Message(role="user", content=(Image(path="7.png"), "and", Image(data=png("red")), "?")),
            ),
            truth={"objects": [{"label": "röter Kreis", "box": [4, 6, 20, 22]}]},
            alternates={"blank": Image(data=png("white")), "other": Image(path="8.png")},
        ),
        completions=(
            Completion(text="A red circle.", token_ids=(5, 6), behaviour_logprobs=(-0.25, -1e-7)),
            Completion(text="Nothing\nat all.", sampling={"temperature": 1.0, "seed": 3}),
        ),
        signals=(Pair(chosen=0, rejected=1, margin=0.5), Reward(completion=0, value=1.5, parts={"a": 1.5})),
    )
    return dataclasses.replace(whole, **changes)


def asked(*content: str | Image, name: str = "7", answers: tuple[str, ...] = ()) -> Group:
    prompt = Prompt(id=name, messages=(Message(role="user", content=content),))
    return Group(prompt=prompt, completions=tuple(Completion(text=answer) for answer in answers))


PLAIN = asked("What?", name="plain")


def skipped(path: Path) -> tuple[list[tuple[int, str]], list[BadRow]]:
    bad: list[BadRow] = []
    good = [(line, group.prompt.id) for line, group in read_groups(path, on_bad="skip", on_skip=bad.append)]
    return good, bad


# Round trips


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_groups_come_back_from_a_file_as_they_were(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.{ending}"
    groups = [group("7"), PLAIN, group("8", completions=(), signals=()), asked(Image(data=b""), name="9")]
    assert write_groups(path, groups) == 4
    assert [line for line, _ in read_groups(path)] == [1, 2, 3, 4]
    assert [back for _, back in read_groups(path)] == groups


def test_parquet_keeps_the_bytes_of_images(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_groups(path, [group()])
    (row,) = pyarrow.parquet.read_table(path).to_pylist()
    assert row["images"] == [
        {"bytes": None, "path": "7.png"},
        {"bytes": png("red"), "path": None},
        {"bytes": png("white"), "path": None},
        {"bytes": None, "path": "8.png"},
    ]
    assert json.loads(row["messages"])[1]["content"][2] == {"image": 1}
    assert json.loads(row["alternates"]) == {"blank": 2, "other": 3}


def test_every_file_says_its_schema_version(tmp_path: Path) -> None:
    write_groups(tmp_path / "rows.jsonl", [group(), PLAIN])
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["schema_version"] for line in lines] == [1, 1]
    write_groups(tmp_path / "rows.parquet", [])
    metadata = pyarrow.parquet.read_schema(tmp_path / "rows.parquet").metadata
    assert metadata[b"sightline.schema_version"] == b"1"
    assert list(read_groups(tmp_path / "rows.parquet")) == []


def test_parquet_is_written_in_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_MAX_ROWS", 10)
    path = tmp_path / "rows.parquet"
    groups = [asked(Image(data=png("red")), name=str(i)) for i in range(25)]
    write_groups(path, groups)
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 3
    assert [back for _, back in read_groups(path)] == groups
    monkeypatch.setattr(parquet, "_MAX_BYTES", 2 * len(png("red")))
    write_groups(path, groups)
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 13


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.{ending}"
    write_groups(path, [PLAIN])

    def some() -> Iterator[Group]:
        yield group()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_groups(path, some())
    assert [back for _, back in read_groups(path)] == [PLAIN]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_values_that_no_file_can_hold_are_refused(tmp_path: Path, ending: str) -> None:
    prompt = Prompt(id="7", messages=PLAIN.prompt.messages, truth={"size": float("nan")})
    with pytest.raises(RecordError, match="prompt '7': cannot be written as JSON"):
        write_groups(tmp_path / f"rows.{ending}", [Group(prompt=prompt)])


# Bad rows


def test_a_line_that_is_no_json_is_named_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{PLAIN.to_json()}\n\n{{"prompt": \n{group("8").to_json()}\n')
    with pytest.raises(RecordError) as caught:
        list(read_groups(path))
    problem = "is not JSON (Expecting value at column 12)"
    sentence = f"{path}:3: row: {problem}; write one whole JSON value"
    assert str(caught.value) == sentence
    good, bad = skipped(path)
    assert good == [(1, "plain"), (4, "8")]
    assert [str(row) for row in bad] == [sentence]


def test_bytes_that_are_no_utf8_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "\xff"}\n')
    with pytest.raises(RecordError, match=r"rows.jsonl:1: row: is not UTF-8 \(byte 13\); save the file as UTF-8"):
        list(read_groups(path))


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + PLAIN.to_json().encode() + b"\r\n\r\n")
    assert [back for _, back in read_groups(path)] == [PLAIN]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_second_row_of_the_same_id_is_bad(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.{ending}"
    write_groups(path, [group("7"), PLAIN, group("7"), group("7")])
    good, bad = skipped(path)
    assert good == [(1, "7"), (2, "plain")]
    assert [(row.line, row.field, row.problem) for row in bad] == [
        (3, "prompt.id", "'7' is that of line 1 too"),
        (4, "prompt.id", "'7' is that of line 1 too"),
    ]


ANSWER = Message(role="assistant", content=("Yes.",))
QUESTION = Message(role="user", content=("Is it?",))
WORDS = [
    (
        asked("<image>\nWhat is here?"),
        "prompt.messages[0].content[0].text",
        "holds <image> and the row has no image",
        'write {"image": ...} as a part of its own where the picture belongs',
    ),
    (
        asked(Image(path="7.png"), "<image>\nWhat is here?"),
        "prompt.messages[0].content[1].text",
        "holds <image> as text",
        "take it out: image parts alone say where pictures are",
    ),
    (
        asked(Image(path="7.png"), "What?", answers=("A circle.", "See <|image_pad|>.")),
        "completions[1].text",
        "holds <|image_pad|> as text",
        "take it out: image parts alone say where pictures are",
    ),
    (
        asked("What?", answers=("A circle.", " \n")),
        "completions[1].text",
        "is empty",
        "write an answer or leave the completion out",
    ),
    (
        asked(),
        "prompt.messages[0].content",
        "is empty",
        "write text or an image, or leave it out",
    ),
    (
        asked(""),
        "prompt.messages[0].content",
        "is empty",
        "write text or an image, or leave it out",
    ),
    (
        Group(prompt=Prompt(id="7", messages=(dataclasses.replace(QUESTION, role="system"),))),
        "prompt.messages",
        "has no user message",
        "give at least one user message",
    ),
    (
        Group(prompt=Prompt(id="7", messages=(QUESTION, ANSWER))),
        "prompt.messages[1].role",
        "is assistant at the end",
        "end with the user; answers are completions",
    ),
]


@pytest.mark.parametrize(("bad", "field", "problem", "cure"), WORDS)
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_rows_that_say_too_little_are_bad(
    tmp_path: Path, ending: str, bad: Group, field: str, problem: str, cure: str
) -> None:
    path = tmp_path / f"rows.{ending}"
    write_groups(path, [PLAIN, bad])
    with pytest.raises(RecordError) as caught:
        list(read_groups(path))
    assert str(caught.value) == f"{path}:2: {field}: {problem}; {cure}"
    good, rows = skipped(path)
    assert good == [(1, "plain")]
    assert rows == [BadRow(file=str(path), line=2, field=field, problem=problem, cure=cure)]


@pytest.mark.parametrize("token", MEDIA_TOKENS)
def test_no_media_token_is_text(tmp_path: Path, token: str) -> None:
    write_groups(tmp_path / "rows.jsonl", [asked(f"What is in {token}?")])
    assert [row.problem for row in skipped(tmp_path / "rows.jsonl")[1]] == [f"holds {token} and the row has no image"]


def test_a_sampled_answer_may_be_empty(tmp_path: Path) -> None:
    sampled = Completion(text="", token_ids=(2,), finish_reason="stop")
    write_groups(tmp_path / "rows.jsonl", [dataclasses.replace(PLAIN, completions=(sampled,))])
    assert len(list(read_groups(tmp_path / "rows.jsonl"))) == 1


def test_a_conversation_of_several_turns_is_good(tmp_path: Path) -> None:
    talk = Group(prompt=Prompt(id="7", messages=(QUESTION, ANSWER, QUESTION)))
    write_groups(tmp_path / "rows.jsonl", [talk])
    assert [back for _, back in read_groups(tmp_path / "rows.jsonl")] == [talk]


def test_every_skipped_row_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [asked("What?", name=str(i)).to_json() if i % 3 else '{"prompt": 3}' for i in range(30)]
    path.write_text("\n".join(lines))
    good, bad = skipped(path)
    assert len(good) == 20
    assert [row.line for row in bad] == list(range(1, 31, 3))
    assert {row.field for row in bad} == {"prompt"}


def test_skipping_without_telling_is_not_possible(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="needs on_skip"):
        read_groups(tmp_path / "rows.jsonl", on_bad="skip")


def test_a_bad_row_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": {"id": "7\n8", "messages": "a\nb"}}) + "\n")
    assert "\n" not in str(skipped(path)[1][0])


# Parquet of other hands


def write_table(path: Path, **columns: list) -> None:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def message(*content: object) -> str:
    return json.dumps([{"role": "user", "content": list(content)}])


@pytest.mark.parametrize(
    ("columns", "field", "problem"),
    [
        ({"id": [7]}, "prompt.id", "is 7, not a string"),
        ({"messages": [None]}, "prompt.messages", "is missing or empty"),
        ({"messages": ["[{"]}, "messages", "is not JSON"),
        ({"messages": [3]}, "messages", "is not a column of strings"),
        ({"messages": ['["What?"]']}, "prompt.messages[0]", "is 'What?', not an object"),
        ({"messages": ['[{"role": "user", "content": 3}]']}, "prompt.messages[0].content", "is neither"),
        ({"messages": [message({"image": 1})]}, "prompt.messages[0].content[0].image", "is image 1 of 0"),
        ({"messages": [message({"image": -1})]}, "prompt.messages[0].content[0].image", "is image -1 of 0"),
        (
            {"messages": [message({"image": 0})], "images": [[{"bytes": None, "path": None}]]},
            "prompt.messages[0].content[0].image.path",
            "is null",
        ),
        ({"messages": [message({"image": 0})], "images": [["7.png"]]}, "images[0]", "is not {bytes, path}"),
        ({"truth": ["[]"]}, "prompt.truth", "is [], not an object"),
        ({"alternates": ['{"blank": 0}']}, "prompt.alternates.blank", "is image 0 of 0"),
        ({"completions": ["{}"]}, "completions", "not a list"),
        ({"signals": ['[{"kind": "vote"}]']}, "signals[0].kind", "is 'vote'"),
    ],
)
def test_an_error_in_parquet_names_its_field(tmp_path: Path, columns: dict, field: str, problem: str) -> None:
    path = tmp_path / "rows.parquet"
    write_table(path, **{"id": ["7"], "messages": [message({"text": "What?"})], **columns})
    (bad,) = skipped(path)[1]
    assert (bad.line, bad.field) == (1, field)
    assert problem in bad.problem


def test_an_image_with_bytes_and_a_name_is_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    image = {"bytes": png("red"), "path": "of_the_disk_it_came_from.png"}
    write_table(path, id=["7"], messages=[message({"image": 0})], images=[[image]])
    ((_, back),) = read_groups(path)
    assert back.prompt.images == (Image(data=png("red")),)


def test_columns_are_known_by_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_table(path, id=["7"], messages=["[]"], colour=["red"])
    with pytest.raises(RecordError, match="has unknown column 'colour'; known are id, task, messages, images"):
        list(read_groups(path))
    write_table(path, id=["7"])
    with pytest.raises(RecordError, match="lacks the column 'messages'"):
        list(read_groups(path))


def test_a_newer_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pyarrow.table({"id": ["7"], "messages": ["[]"]})
    pyarrow.parquet.write_table(table.replace_schema_metadata({"sightline.schema_version": "2"}), path)
    with pytest.raises(RecordError, match="has schema_version 2; this version of Sightline reads 1"):
        list(read_groups(path))


@pytest.mark.parametrize("damage", ["no parquet", "cut", "changed"])
def test_a_broken_parquet_is_one_sentence(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "rows.parquet"
    write_groups(path, [group(str(i)) for i in range(50)])
    data = path.read_bytes()
    changed = data[:200] + bytes(600) + data[800:]
    path.write_bytes({"no parquet": b"nonsense", "cut": data[:-20], "changed": changed}[damage])
    with pytest.raises(RecordError) as caught:
        list(read_groups(path, on_bad="skip", on_skip=lambda row: None))
    assert caught.value.where == str(path)
    assert "\n" not in str(caught.value)


# Names of files


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("trian.jsonl", "trian.jsonl: is not there; did you mean {folder}/train.jsonl?"),
        ("zzz.jsonl", "zzz.jsonl: is not there; name a .jsonl or .parquet file (data.files)"),
        ("no/such/train.jsonl", "train.jsonl: is not there; name"),
        ("rows.csv", "rows.csv: ends in '.csv'; data files are .jsonl or .parquet"),
        ("rows", "rows: has no ending; data files are"),
        ("", "is a folder; name"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_at_once(tmp_path: Path, name: str, sentence: str) -> None:
    for present in ("train.jsonl", "rows.csv", "rows"):
        (tmp_path / present).write_text("")
    with pytest.raises(RecordError) as caught:
        read_groups(tmp_path / name)
    assert sentence.format(folder=tmp_path) in str(caught.value)


def test_an_unknown_ending_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"data files are \.jsonl or \.parquet"):
        write_groups(tmp_path / "rows.csv", [PLAIN])
