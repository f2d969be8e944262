import io
from pathlib import Path

import PIL.Image
import pytest

from sightline.data.check import CheckReport, Lengths, Spread, check
from sightline.data.files import BadRow, write_groups
from sightline.data.images import ImageStore
from sightline.records import (
    Completion,
    Group,
    Image,
    Label,
    Message,
    Pair,
    Prompt,
    RecordError,
    Reward,
)


def png(colour: str) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (4, 3), colour).save(file, "PNG")
    return file.getvalue()


def group(name: str, *content: str | Image, answers: tuple[str, ...] = ("yes", "no"), **prompt: object) -> Group:
    messages = (Message(role="user", content=content or ("What?",)),)
    signals = (Pair(chosen=0, rejected=1), Label(completion=0, good=True)) if len(answers) > 1 else ()
    completions = tuple(Completion(text=answer) for answer in answers)
    return Group(prompt=Prompt(id=name, messages=messages, **prompt), completions=completions, signals=signals)


def measure(group: Group) -> Lengths:
    """A token is a character; an image is ten."""
    parts = [part for message in group.prompt.messages for part in message.content if isinstance(part, str)]
    answers = tuple(len(completion.text) for completion in group.completions)
    return Lengths(prompt_text=sum(map(len, parts)), image=10 * len(group.prompt.images), answers=answers)


def render(prompt: Prompt) -> str:
    return f"<user>{prompt.id}<end>"


def checked(folder: Path, *groups: Group, **options: object) -> CheckReport:
    write_groups(folder / "rows.jsonl", groups)
    return check([folder / "rows.jsonl"], store_for=lambda file: ImageStore(file.parent), **options)


def only_bad(report: CheckReport) -> BadRow:
    (bad,) = report.bad_rows
    return bad


def test_everything_is_counted(tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(png("red"))
    write_groups(
        tmp_path / "first.jsonl",
        [
            group("1", Image(path="red.png"), "What?", task="describe"),
            group("2", Image(data=png("red")), Image(data=png("blue")), task="count"),
            group("3", task="count", alternates={"blank": Image(data=png("white"))}),
        ],
    )
    one = group("1", answers=("one answer",))
    rewarded = Group(prompt=one.prompt, completions=one.completions, signals=(Reward(completion=0, value=1),))
    write_groups(tmp_path / "second.parquet", [rewarded])
    (tmp_path / "second.jsonl").write_text('{"prompt": 1}\n')
    names = ("first.jsonl", "second.parquet", "second.jsonl")
    report = check([tmp_path / name for name in names], store_for=lambda file: ImageStore(file.parent))
    assert [(Path(f.file).name, f.num_rows, f.num_groups) for f in report.files] == [
        ("first.jsonl", 3, 3),
        ("second.parquet", 1, 1),
        ("second.jsonl", 1, 0),
    ]
    assert (report.num_rows, report.num_groups, report.num_completions) == (5, 4, 7)
    assert (report.num_images, report.num_distinct_images) == (4, 3)
    assert report.signals == {"pair": 3, "label": 3, "reward": 1}
    assert report.tasks == {"describe": 1, "count": 2}
    assert report.lengths == {}
    assert report.rendered == ()
    assert only_bad(report).line == 1


def test_a_picture_that_does_not_open_is_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(png("red")[:50])
    report = checked(
        tmp_path,
        group("1", Image(data=png("red"))),
        group("2", "Compare", Image(data=png("red")), Image(path="none.png")),
        group("3", alternates={"blank": Image(path="../7.png")}),
        group("4", Image(path="cut.png")),
        group("5", Image(data=b"<html>")),
    )
    assert (report.num_rows, report.num_groups, report.num_images, report.num_distinct_images) == (5, 1, 1, 1)
    assert [(bad.line, bad.field) for bad in report.bad_rows] == [
        (2, "prompt.messages[0].content[2].image"),
        (3, "prompt.alternates.blank"),
        (4, "prompt.messages[0].content[0].image"),
        (5, "prompt.messages[0].content[0].image"),
    ]
    assert str(report.bad_rows[0]) == (
        f"{tmp_path}/rows.jsonl:2: prompt.messages[0].content[2].image: image 'none.png' cannot be found "
        f"below {tmp_path} (No such file or directory); check the path and data.root"
    )
    assert "embedded image is not an image that is read here" in report.bad_rows[3].problem


def test_bad_rows_are_in_order_whoever_finds_them(tmp_path: Path) -> None:
    rows = [group("1"), group("2", Image(path="none.png")), group("1"), group("4", answers=("",)), group("5")]
    report = checked(tmp_path, *rows)
    assert [bad.line for bad in report.bad_rows] == [2, 3, 4]
    assert (report.num_rows, report.num_groups) == (5, 2)


def test_the_same_picture_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(ImageStore, "open", lambda store, image: opened.append(image))
    checked(tmp_path, *(group(str(i), Image(data=png("red"))) for i in range(5)))
    assert len(opened) == 1


def test_lengths_are_lengths_that_occur(tmp_path: Path) -> None:
    groups = [group(str(i), "x" * i, answers=("y" * i, "z" * 2 * i)) for i in range(1, 101)]
    lengths = checked(tmp_path, *groups, measure=measure).lengths
    assert lengths["prompt_text"] == Spread(num=100, smallest=1, median=50, p90=90, p99=99, largest=100)
    assert lengths["answer"].num == 200
    assert (lengths["answer"].largest, lengths["image"].largest) == (200, 0)


def test_rows_over_the_limits_are_bad_and_not_counted(tmp_path: Path) -> None:
    rows = [
        group("1", "four"),
        group("2", Image(data=png("red")), "four"),
        group("3", answers=("yes", "ninechars")),
    ]
    report = checked(tmp_path, *rows, measure=measure, max_prompt_tokens=13, max_answer_tokens=8)
    assert [str(bad).partition("rows.jsonl:")[2] for bad in report.bad_rows] == [
        "2: prompt: has 14 tokens (4 of text, 10 of images), more than 13; shorten it or raise data.max_prompt_tokens",
        "3: completions[1].text: has 9 tokens, more than 8; shorten it or raise data.max_answer_tokens",
    ]
    assert report.lengths["prompt_text"].num == 1
    assert checked(tmp_path, *rows, measure=measure, max_prompt_tokens=14, max_answer_tokens=9).bad_rows == ()


def test_the_first_good_prompts_are_rendered(tmp_path: Path) -> None:
    rows = [group("1"), group("2", answers=("",)), group("3"), group("4")]
    rendered = checked(tmp_path, *rows, render=render, show=2).rendered
    assert [(r.line, r.id, r.text) for r in rendered] == [(1, "1", "<user>1<end>"), (3, "3", "<user>3<end>")]


def test_what_the_model_refuses_is_a_bad_row(tmp_path: Path) -> None:
    def refuse(group: Group) -> Lengths:
        raise RecordError("prompt.messages[0].role", "is user", "this model takes none")

    bad = only_bad(checked(tmp_path, group("1"), measure=refuse))
    assert (bad.field, bad.problem, bad.cure) == (
        "prompt.messages[0].role",
        "is user",
        "this model takes none",
    )


def test_a_file_without_rows_is_counted(tmp_path: Path) -> None:
    report = checked(tmp_path, measure=measure)
    assert (report.num_rows, report.lengths, report.bad_rows) == (0, {}, ())


def test_a_missing_file_stops_the_check(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="is not there"):
        check([tmp_path / "none.jsonl"], store_for=lambda file: ImageStore(file.parent))
