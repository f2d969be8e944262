"""Rows that repeat each other are counted: copies, near copies, one prompt again and again; honest data are not."""

import random
from pathlib import Path

import pytest

from sightline.data.check import check
from sightline.data.files import write_groups
from sightline.data.images import ImageStore
from sightline.data.repeats import Finder, Repeats
from sightline.records import Completion, Group, Message, Pair, Prompt

WORDS = [f"word{number}" for number in range(400)]


def group(name: str, asked: str, *answers: str) -> Group:
    return Group(
        prompt=Prompt(id=name, messages=(Message(role="user", content=(asked,)),)),
        completions=tuple(Completion(text=answer) for answer in answers),
        signals=(Pair(chosen=0, rejected=1),) if len(answers) > 1 else (),
    )


def text(seed: int, length: int = 40) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def found(groups: list[Group], pictures: list[tuple[str, ...]] | None = None) -> Repeats:
    finder = Finder()
    for number, one in enumerate(groups):
        finder.add(one, pictures[number] if pictures else ())
    return finder.found()


def test_twenty_four_identical_pairs_are_one_pair():
    seen = found([group(str(n), "What is here?", "A red circle.", "A blue star.") for n in range(24)])
    assert (seen.copies, seen.most_asked, seen.share) == (23, 24, 23 / 24)
    assert seen.lines() == [
        "23 of 24 rows repeat an earlier row (23 word for word); the first is prompt '1', which repeats '0'",
        "24 of 24 rows have one and the same prompt",
    ]


def test_case_and_punctuation_make_no_other_row():
    seen = found([group("0", "What is here?", "A red circle.", "B"), group("1", "what is here", "a RED circle!", "b")])
    assert seen.copies == 1


def test_rows_with_a_few_words_changed_are_nearly_the_same():
    long = text(1, 120)
    changed = long.replace("word", "other", 1)
    seen = found([group("0", text(0), long, text(2)), group("1", text(0), changed, text(2))])
    assert (seen.copies, seen.near) == (0, 1)


def test_other_pictures_make_other_rows():
    groups = [group(str(n), "What is here?", "A red circle.", "A blue star.") for n in range(20)]
    assert found(groups, [(f"picture-{n}",) for n in range(20)]) == Repeats(num_rows=20, copies=0, near=0, most_asked=1)


def test_honest_rows_repeat_nothing():
    groups = [group(str(n), text(3 * n), text(3 * n + 1), text(3 * n + 2)) for n in range(300)]
    assert found(groups).lines() == []


def test_pairs_of_one_prompt_are_no_copies_but_the_prompt_is_counted():
    groups = [group(str(n), "What is here?", text(2 * n), text(2 * n + 1)) for n in range(20)]
    seen = found(groups)
    assert (seen.copies, seen.near, seen.share_of_one_prompt) == (0, 0, 1.0)
    assert found(groups[:8]).share_of_one_prompt == 0.0, "among few rows it says nothing"


def test_short_questions_about_one_picture_are_not_nearly_the_same():
    colours = ("red", "green", "blue", "yellow")
    groups = [group(c, f"Is there a {c} circle?", "Yes.", "No.") for c in colours]
    assert found(groups, [("one",)] * 4).near == 0


def test_prompts_alone_repeat_by_their_words_and_pictures():
    seen = found([group(str(n), "Locate every shape.") for n in range(4)], [("a",), ("a",), ("b",), ("c",)])
    assert seen.copies == 1


@pytest.mark.parametrize("num", [1, 30])
def test_data_check_counts_them(num: int, tmp_path: Path):
    write_groups(tmp_path / "rows.jsonl", [group(str(n), "What is here?", "A.", "B.") for n in range(num)])
    report = check([tmp_path / "rows.jsonl"], store_for=lambda file: ImageStore(None))
    assert report.repeats.copies == num - 1
