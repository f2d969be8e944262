"""Scores of rows: values by hand, rows that cannot be scored, and rewards with bugs."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sightline.rewards.scoring import BATCH, score_lines, start_scoring

IMAGE = {"width": 1000, "height": 1000, "seen_width": 500, "seen_height": 500}
TRUTH = {"objects": [{"label": "cat", "box": [0, 0, 200, 200]}, {"label": "dog", "box": [400, 400, 600, 600]}]}
ANSWER = [{"bbox_2d": [0, 0, 100, 80], "label": "cat"}, {"bbox_2d": [200, 200, 300, 300], "label": "cat"}]
"""An IoU (and GIoU) of 0.8 with the cat, and of 1 with the dog under the wrong label."""


def case(completion: Any = ANSWER, **more) -> dict[str, Any]:
    text = completion if isinstance(completion, str) else json.dumps(completion)
    return {"id": "1", "completion": text, "truth": TRUTH, "image": IMAGE} | more


def scores(rows: list[Any], name: str = "vision_r1", timeout: float = 10.0, **options) -> list[dict[str, Any]]:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows]
    with closing(start_scoring(name, options, timeout=timeout)) as pool:
        return list(score_lines(lines, pool, name))


def error(row: Any, name: str = "vision_r1", **options) -> str:
    [found] = scores([row], name, **options)
    assert set(found) == {"id", "error"}
    return found["error"]


@pytest.mark.parametrize(
    ("options", "progress", "expected"),
    [
        ({}, 0.3, (1, 0.5, 0.5, -1 / 6)),
        ({}, 0.6, (1, 0.5 * (0.5 / 0.75) ** 2, 0.4, -0.4 / 3)),
        ({"phase": "off"}, 0.6, (1, 0.5, 0.4, -0.4 / 3)),
        ({"step": 1}, 0.6, (1, 0.5, 0.5, -1 / 6)),
        ({"mode": "paper"}, 0.3, (1, 1, 1)),
        ({"mode": "paper"}, 0.6, (1, 1, 0.9)),
        ({"mode": "paper", "phase": "early"}, 0.6, (1, 1, 1)),
        ({"mode": "released"}, 0.6, (1, 1, 0.9)),
        ({"mode": "released", "phase": "early"}, 0.6, (1, 1, 1)),
        ({"mode": "released", "phase": "late"}, 0.3, (1, 1, 0.9)),
        ({"mode": {"steps": [[0.0, "sightline"], [0.5, "paper"]]}, "phase": "early"}, 0.6, (1, 1, 1)),
    ],
)
def test_vision_r1_in_three_modes_by_hand(options, progress, expected):
    [found] = scores([case(progress=progress)], **options)
    assert list(found) == ["id", "value", "parts"]
    assert found["id"] == "1"
    assert list(found["parts"]) == ["format", "recall", "precision", "charge"][: len(expected)]
    assert tuple(found["parts"].values()) == pytest.approx(expected)
    assert found["value"] == pytest.approx(sum(expected))


def test_a_row_may_count_more_objects_than_it_lists_and_none():
    more, none = case(truth=TRUTH | {"num_instances": 4}), case([], truth={"objects": []})
    found = scores([more, none, case(truth={"objects": []})], mode="paper", phase="early")
    assert [row["value"] for row in found] == pytest.approx([2.5, 3, 1])


def test_a_picture_seen_as_stored_needs_no_second_size():
    box = [{"bbox_2d": [0, 0, 200, 160], "label": "cat"}]
    [seen, original] = (
        scores([case(box, image={"width": 1000, "height": 1000})])
        + scores([case(box)], space="original")
    )  # fmt: skip
    assert seen == original


def test_what_is_null_is_left_out():
    assert scores([case(progress=None, prompt=None)]) == scores([case()])
    [found] = scores([case("2", truth={"count": 2}, image=None)], "count")
    assert found["value"] == 1.0


def test_rewards_without_parts_give_none():
    assert scores([case("2", truth={"count": 2})], "count") == [{"id": "1", "value": 1.0, "parts": {}}]


def test_ids_come_back_as_they_were_and_rows_in_order():
    rows = [case(str(i), id=i, truth={"count": 7}, image={}) for i in range(2 * BATCH + 3)]
    found = scores(rows, "count")
    assert [row["id"] for row in found] == list(range(2 * BATCH + 3))
    assert [row["id"] for row in found if row["value"]] == [7]


def test_rows_are_scored_as_they_come():
    def lines() -> Iterator[bytes]:
        yield from [json.dumps(case()).encode()] * BATCH
        raise OSError("the pipe broke")

    with closing(start_scoring("vision_r1", {})) as pool:
        rows = score_lines(lines(), pool, "vision_r1")
        assert [next(rows)["value"] for _ in range(BATCH - 1)] == [2 - 1 / 6] * (BATCH - 1)


def test_lines_that_are_no_rows_are_named_and_blank_ones_are_none():
    found = scores(
        [b"\n", b'{"id": 1,\n', b"  \n", b"[1]\n", b'{"id": "\xff"}\n', b'{"id": 1, "id": 2}', b'{"id": NaN}']
    )
    assert [row["id"] for row in found] == [None] * 5
    starts = [
        "line 2: is not JSON",
        "line 4: is no JSON object",
        "line 5: is not UTF-8; save the file as UTF-8",
        "line 6: has the key 'id' twice",
        "line 7: holds NaN",
    ]
    assert all(row["error"].startswith(start) for row, start in zip(found, starts, strict=True))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": None}, "line 1: id: is no text or number; give each row one"),
        ({"completion": None}, "line 1: completion: is no text; give the answer as text"),
        ({"truth": []}, 'line 1: truth: is no object; give it, such as {"objects": []}'),
        ({"progress": 1500}, "line 1: progress: is 1500; give the share of the run, 0 to 1"),
        ({"progress": "half"}, "line 1: progress: is 'half', not a number; write a number"),
        ({"image": [1, 2]}, "line 1: image: is [1, 2], not an object"),
        ({"image": {"w": 3}}, "line 1: image: has unknown field 'w'"),
        ({"image": {"width": 100}}, "line 1: image.height: is null"),
        ({"image": IMAGE | {"seen_width": 0}}, "line 1: image.seen_width: is 0"),
        ({"image": IMAGE | {"width": 99.5}}, "line 1: image.width: is 99.5"),
        ({"image": {}}, "give the picture's width and height as stored"),
        ({"truth": {"objects": [{"label": "cat"}]}}, "the truth's object is {'label': 'cat'}; give {label, box"),
        ({"truth": {"count": 3}}, "vision_r1 has no opinion: the truth lacks what it needs"),
    ],
)
def test_a_row_that_cannot_be_scored_says_why(change, says):
    assert says in error(case() | change)


def test_a_misspelt_key_is_refused_and_a_foreign_one_is_passed_over():
    assert error(case(progres=0.6)) == "line 1: progres: is unknown; did you mean progress?"
    [found] = scores([case(source="web", note=[1])])
    assert found["value"] == 2 - 1 / 6


def test_where_the_released_code_fails_the_row_says_so():
    assert error(case(truth={"objects": []}), mode="released").startswith("the released code fails on a box where")


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("vision_r2", {}, "reward 'vision_r2' is unknown; did you mean vision_r1"),
        ("vision_r1", {"mod": 1}, "has no option 'mod'; did you mean mode"),
        ("vision_r1", {"mode": "papre"}, "mode is 'papre'; did you mean paper"),
        ("vision_r1", {"mode": "released", "full_from": 0.9}, "remove full_from"),
        ("vision_r1", {"phase": {"steps": [["0", "early"]]}}, "phase"),
    ],
)
def test_mistakes_are_refused_before_the_first_row(name, options, says):
    with pytest.raises(ValueError, match=says):
        start_scoring(name, options)


def test_a_reward_of_ones_own_with_a_bug_spoils_its_rows_only(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(
        "import time\n"
        "from sightline.rewards.contract import Score\n"
        "PRICES = {'cat': 1.0, 'dog': float('nan')}\n"
        "def price(completion, context, *, factor: float = 1.0):\n"
        "    time.sleep(60 * (completion.text == 'hang'))\n"
        "    return Score(value=factor * PRICES[completion.text], parts={'letters': len(completion.text)})\n"
    )
    texts = ["cat", "cow", "dog", "hang", "cat"]
    found = scores([case(text, id=text) for text in texts], "own:price", timeout=0.5, factor=3)
    assert found[0] == {"id": "cat", "value": 3.0, "parts": {"letters": 3}} == found[4]
    assert found[1] == {"id": "cow", "error": "raised KeyError: 'cow' (own.py, line 6)"}
    assert found[2]["error"] == "price: the reward's value is nan; give back finite numbers"
    assert found[3] == {"id": "hang", "error": "took longer than 0.5 seconds"}
