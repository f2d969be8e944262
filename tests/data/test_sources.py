import inspect
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.cli import main
from sightline.data.check import check
from sightline.data.files import BadRow, read_groups
from sightline.data.images import ImageStore
from sightline.data.sources.coco import _plus
from sightline.data.sources.contract import Published
from sightline.data.sources.library import SOURCES, Imported, import_prompts
from sightline.data.sources.parts import Pictures, question
from sightline.fields import RecordError
from sightline.records import Completion, Group, Image
from sightline.registry import find
from sightline.rewards.contract import RewardContext
from sightline.rewards.library import load_builtin

DETECT = (
    "Examine the image for any objects from the category set. Report the coordinates of each detected object. "
    "The category set includes dog, cat and kite."
)
ROOT = Path(__file__).parents[2]


def picture(size: tuple[int, int] = (64, 48), form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", size, "green").save(file, form, **options)
    return file.getvalue()


def embedded(size: tuple[int, int] = (64, 48)) -> dict[str, Any]:
    return {"bytes": picture(size), "path": "7.png"}


def on_disk(folder: Path, *names: str, size: tuple[int, int] = (64, 48)) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(size))


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def saved_to_disk(folder: Path, *shards: list[dict[str, Any]]) -> Path:
    """A folder as `datasets` leaves it: shards in Arrow's streaming format, and a state that names them."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05}-of-{len(shards):05}.arrow" for i in range(len(shards))]
    for name, rows in zip(names, shards, strict=True):
        table = pyarrow.Table.from_pylist(rows)
        with (folder / name).open("wb") as file, pyarrow.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def run(
    name: str, *paths: Path, root: Path | None = None, **options: Any
) -> tuple[Imported, list[Group], list[BadRow]]:
    """Import with bad rows skipped, and read back what was written; `data check` must have no complaint about it."""
    bad: list[BadRow] = []
    out = paths[0].parent / "out" / "prompts.jsonl"
    out.parent.mkdir(exist_ok=True)
    done = import_prompts(name, paths, out, options=options, root=root, on_bad="skip", on_skip=bad.append)
    report = check([out], store_for=lambda file: ImageStore(done.root))
    assert [str(row) for row in report.bad_rows] == []
    assert report.num_groups == done.num_groups
    return done, [group for _, group in read_groups(out)], bad


def complaint(name: str, *paths: Path, root: Path | None = None, **options: Any) -> str:
    """What an import that must stop says; nothing may be left behind."""
    out = paths[0].parent / "never.jsonl"
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        import_prompts(name, paths, out, options=options, root=root)
    assert not out.exists()
    return str(caught.value).replace(f"{paths[0].parent}/", "")


def words(group: Group) -> str:
    return " ".join(part for part in group.prompt.messages[-1].content if isinstance(part, str))


def score(name: str, answer: str, group: Group, **options: Any) -> float:
    load_builtin()
    context = RewardContext(truth=group.prompt.truth, image_size=(64, 48), seen_size=(64, 48))
    given = find("reward", name)(Completion(text=answer), context, **options)
    return given if isinstance(given, float) else given.value


# Vision-R1-Data


def vision_row(problem: str = DETECT, boxes: list[Any] | None = None, **changes: Any) -> dict[str, Any]:
    boxes = [["dog", [[1, 2, 30.5, 40]]], ["kite", [[0, 0, 64, 48]]]] if boxes is None else boxes
    row = {
        "image": embedded(),
        "problem": problem,
        "solution": json.dumps(boxes),
        "width": 64,
        "height": 48,
        "num_instances": len(boxes),
        "target_id_maps": json.dumps({"dog": 1, "Cat": 2, "kite": 3}),
        "source": "coco",
    }
    return {**row, **changes}


def test_vision_r1_becomes_prompts_with_boxes_as_they_were(tmp_path: Path) -> None:
    rows = [
        vision_row(),
        vision_row("Locate the exact position of dog in the picture, if you can.", [["dog", [[3, 4, 5, 6]]]]),
        vision_row(
            "Can you point out the old cat in the image and provide the coordinates of its location?",
            [["CAT", [1.25, 2, 3, 4]]],
        ),
        vision_row(boxes=[]),
    ]
    done, groups, bad = run("vision_r1", parquet(tmp_path / "train.parquet", rows))
    assert (done.num_rows, done.num_groups, bad, done.root) == (4, 4, [], None)
    assert [group.prompt.id for group in groups] == [f"vision_r1-{i}" for i in (1, 2, 3, 4)]
    assert [group.prompt.task for group in groups] == ["detect", "ground", "refer", "detect"]
    assert [group.prompt.images for group in groups] == [(Image(data=picture()),)] * 4
    assert groups[0].prompt.truth == {
        "objects": [{"label": "dog", "box": [1, 2, 30.5, 40]}, {"label": "kite", "box": [0, 0, 64, 48]}],
        "num_instances": 2,
    }
    assert groups[2].prompt.truth["objects"] == [{"label": "CAT", "box": [1.25, 2, 3, 4]}]
    assert groups[3].prompt.truth == {"objects": [], "num_instances": 0}
    ending = "in the image and output the coordinates in JSON format."
    assert [words(group) for group in groups[:3]] == [
        f"Locate every item from the category list {ending} The category set includes dog, cat and kite.",
        f"Locate every dog {ending}",
        f"Locate every the old cat {ending}",
    ]
    assert all(group.completions == () for group in groups)
    answer = '[{"bbox_2d": [1, 2, 30.5, 40], "label": "dog"}, {"bbox_2d": [0, 0, 64, 48], "label": "kite"}]'
    assert score("vision_r1", answer, groups[0]) == 3.0
    assert score("vision_r1", "[]", groups[3]) == 3.0


def test_griffon_keeps_the_question_and_any_other_question_too(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.jsonl", [vision_row(f"<image>\n{DETECT}", image="7.png"), vision_row("Where?", image="7.png")]
    )
    on_disk(tmp_path, "7.png")
    done, groups, _ = run("vision_r1", path, wording="griffon", suffix="Be brief.")
    assert [words(group) for group in groups] == [f"{DETECT} Be brief.", "Where? Be brief."]
    assert [group.prompt.task for group in groups] == ["detect", None]
    assert done.root == tmp_path
    _, _, bad = run("vision_r1", path)
    assert [(row.line, row.field, row.problem) for row in bad] == [
        (2, "problem", "is in none of Griffon's three wordings")
    ]


def test_a_saved_folder_is_read_shard_by_shard_without_datasets(tmp_path: Path) -> None:
    folder = saved_to_disk(tmp_path / "train", [vision_row()] * 100, [vision_row(num_instances=7), vision_row()])
    done, groups, bad = run("vision_r1", folder)
    assert (done.num_rows, done.num_groups, done.num_bad) == (102, 101, 1)
    assert groups[-1].prompt.id == "vision_r1-102"
    assert (Path(bad[0].file).name, bad[0].line) == ("data-00001-of-00002.arrow", 1)
    assert bad[0].problem == "is 7, and the solution has 2 boxes"


def test_arrow_in_the_file_format_is_read_too(tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist([vision_row()])
    with (tmp_path / "a.arrow").open("wb") as file, pyarrow.ipc.new_file(file, table.schema) as stream:
        stream.write_table(table)
    assert run("vision_r1", tmp_path / "a.arrow")[0].num_groups == 1


def test_pictures_are_left_out_by_their_number_of_objects_and_counted(tmp_path: Path) -> None:
    dogs = [["dog", [[1, 2, 3, 4]]]]
    path = parquet(tmp_path / "a.parquet", [vision_row(boxes=dogs * n) for n in (0, 1, 2, 3, 3)])
    done, groups, _ = run("vision_r1", path, min_instances=1, max_instances=2)
    assert [group.prompt.truth["num_instances"] for group in groups] == [1, 2]
    assert done.left_out == {"fewer than 1 object": 1, "more than 2 objects": 2}
    assert complaint("vision_r1", path, min_instances=3, max_instances=2) == (
        "min_instances is 3 and max_instances 2; give at least 0, and a maximum that is not below the minimum"
    )
    assert complaint("vision_r1", path, min_instances=9) == (
        "import: gives no prompt (5 rows: 0 bad, 5 left out); check the files and the options"
    )


BAD_VISION = [
    ({"image": None}, "image", "is missing"),
    ({"image": {"bytes": None, "path": None}}, "image", "is neither a path nor an embedded file"),
    ({"image": {"bytes": b"<html>", "path": None}}, "image", "embedded image is not an image that is read here"),
    ({"image": embedded((48, 64))}, "width", "is 64 x 48, and the picture 48 x 64"),
    ({"problem": " "}, "problem", "is empty"),
    ({"problem": f"<image> {DETECT} <image> <image>"}, "problem", "has <image> 2 times, for 1 pictures"),
    ({"width": None}, "width", "is missing"),
    ({"height": -1}, "height", "is -1"),
    ({"solution": "[["}, "solution", "is not JSON (Expecting value at column 3)"),
    ({"solution": "{}"}, "solution", "is not a list"),
    ({"solution": '["dog"]'}, "solution[0]", "is not [label, [[x1, y1, x2, y2]]]"),
    ({"solution": '[["dog", [[1, 2, 3, 4], [5, 6, 7, 8]]]]'}, "solution[0]", "has 2 boxes"),
    ({"solution": '[["dog", []]]'}, "solution[0]", "has 0 boxes"),
    ({"solution": '[["dog", [[1, 2, 3]]]]'}, "solution[0]", "has the box [1, 2, 3]"),
    ({"solution": '[["dog", [[1, 2, true, 4]]]]'}, "solution[0]", "has the box [1, 2, True, 4]"),
    ({"solution": '[["dog", [[1, 2, 1, 4]]]]'}, "solution[0]", "has the box [1, 2, 1, 4], which is empty"),
    (
        {"solution": '[["dog", [[1, 2, 900, 950]]]]'},
        "solution[0]",
        "has the box [1, 2, 900, 950], outside the picture of 64 x 48",
    ),
    ({"solution": '[["", [[1, 2, 3, 4]]]]'}, "solution[0].label", "is empty"),
    ({"solution": "[[3, [[1, 2, 3, 4]]]]"}, "solution[0].label", "is 3, not a string"),
    (
        {"solution": '[["dgo", [[1, 2, 3, 4]]]]', "num_instances": 1},
        "solution[0].label",
        "is 'dgo', which target_id_maps lacks",
    ),
    ({"target_id_maps": "[]"}, "target_id_maps", "is not an object"),
    ({"num_instances": 1}, "num_instances", "is 1, and the solution has 2 boxes"),
]


@pytest.mark.parametrize(("changes", "field", "problem"), BAD_VISION)
def test_a_bad_row_of_vision_r1_says_what_is_wrong(
    tmp_path: Path, changes: dict[str, Any], field: str, problem: str
) -> None:
    rows = parquet(tmp_path / "a.parquet", [vision_row(), {**vision_row(), **changes}])
    _, groups, (bad,) = run("vision_r1", rows)
    assert (len(groups), bad.line, bad.field, bad.problem) == (1, 2, field, problem)
    assert complaint("vision_r1", rows).startswith(f"a.parquet:2: {field}: {problem}; ")


# VLM-R1


def rec_row(**changes: Any) -> dict[str, Any]:
    row = {
        "image": "coco/7.png",
        "problem": "Please provide the bounding box coordinate of the region this sentence describes: left dog.",
        "normal_caption": "left dog",
        "solution": [4.0, 6.5, 24.0, 26.0],
        "normalized_solution": [62, 135, 375, 541],
    }
    return {**row, **changes}


def talk(answer: Any, asked: str = "<image>Which sentence describes: the dog on the left") -> dict[str, Any]:
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
    return {"id": 1, "image": "coco/7.png", "conversations": turns}


def test_referring_expressions_of_both_forms_become_one_object(tmp_path: Path) -> None:
    on_disk(tmp_path, "coco/7.png")
    (tmp_path / "a.json").write_text(json.dumps([rec_row(), rec_row(normal_caption=None)]))
    answers = [
        [4, 6, 24, 26],
        "[4, 6, 24, 26]",
        "<answer> [4, 6, 24, 26] </answer>",
        '```json\n[{"bbox_2d": [4, 6, 24, 26], "label": "dog"}]\n```',
        '{"bbox_2d": [4, 6, 24, 26]}',
    ]
    more = lines(tmp_path / "b.jsonl", [talk(answer) for answer in answers])
    done, groups, bad = run("vlm_r1_rec", tmp_path / "a.json", more)
    assert (done.num_rows, bad, done.root) == (7, [], tmp_path)
    box = {"label": "left dog", "box": [4.0, 6.5, 24.0, 26.0]}
    assert [group.prompt.truth for group in groups[:2]] == [
        {"objects": [box], "label": "left dog", "num_instances": 1}
    ] * 2
    assert {json.dumps(dict(group.prompt.truth)) for group in groups[2:]} == {
        json.dumps(
            {
                "objects": [{"label": "the dog on the left", "box": [4, 6, 24, 26]}],
                "label": "the dog on the left",
                "num_instances": 1,
            }
        )
    }
    assert groups[0].prompt.images == (Image(path="coco/7.png"),)
    assert (
        words(groups[2]) == "Locate every the dog on the left in the image and output the coordinates in JSON format."
    )
    assert [group.prompt.id for group in groups] == [f"vlm_r1_rec-{i}" for i in range(1, 8)]


def test_rec_iou_reads_the_imported_box(tmp_path: Path) -> None:
    on_disk(tmp_path, "coco/7.png")
    path = lines(tmp_path / "a.jsonl", [rec_row()])
    _, (group,), _ = run("vlm_r1_rec", path, wording="published", suffix="Answer in JSON.")
    assert words(group) == f"{rec_row()['problem']} Answer in JSON."
    assert score("rec_iou", "[4, 6.5, 24, 26]", group) == 1.0
    assert score("rec_iou", '[{"bbox_2d": [14, 6.5, 34, 26], "label": "x"}]', group) == pytest.approx(1 / 3)
    assert score("point_in_box", "(5, 7)", group) == 1.0


@pytest.mark.parametrize(
    ("row", "field", "problem"),
    [
        (rec_row(image="coco/8.png"), "image", "image 'coco/8.png' cannot be found below"),
        (rec_row(image="../7.png"), "image", "image '../7.png' has \"..\" in its path"),
        (rec_row(image="/7.png"), "image", "image '/7.png' is an absolute path"),
        (rec_row(image=["coco/7.png", "coco/7.png"]), "image", "has 2 pictures"),
        (rec_row(image=3), "image", "is neither a path nor an embedded file"),
        (rec_row(solution=None), "solution", "is missing"),
        (rec_row(solution="left"), "solution", "is not JSON"),
        (rec_row(solution=[[1, 2, 3, 4], [5, 6, 7, 8]]), "solution", "has 2 boxes"),
        (rec_row(solution=[620, 135, 975, 541]), "solution", "has the box [620, 135, 975, 541], outside the picture"),
        (rec_row(solution=[]), "solution", "has the box []"),
        (rec_row(problem="<image>"), "problem", "asks nothing"),
        (talk("[1, 2, 3, 4]", asked=""), "value", "is empty"),
        (talk("no"), "solution", "is not JSON"),
        ({**rec_row(), "conversations": [{}]}, "conversations", "is not one question and its answer"),
        ({**rec_row(), "conversations": [{}, {}]}, "conversations", "is not from human and then from gpt"),
        ([], "row", "is not an object"),
        (7, "row", "is not an object"),
    ],
)
def test_a_bad_referring_expression_says_what_is_wrong(tmp_path: Path, row: Any, field: str, problem: str) -> None:
    on_disk(tmp_path, "coco/7.png")
    _, _, (bad,) = run("vlm_r1_rec", lines(tmp_path / "a.jsonl", [row, rec_row()]))
    assert (bad.line, bad.field) == (1, field)
    assert bad.problem.startswith(problem)


# CLEVR and geometry


def test_clevr_becomes_counts(tmp_path: Path) -> None:
    rows = [
        {"image": embedded(), "problem": "How many cubes?", "solution": f"<answer>{n}</answer>"}
        for n in (" 3 ", "0", " 12 ")
    ]
    _, groups, bad = run("clevr_count", parquet(tmp_path / "a.parquet", rows), suffix="Answer with a number.")
    assert bad == []
    assert [group.prompt.truth for group in groups] == [{"count": 3}, {"count": 0}, {"count": 12}]
    assert groups[0].prompt.messages[0].content == (Image(data=picture()), "How many cubes? Answer with a number.")
    assert (score("count", "3", groups[0]), score("count", "4", groups[0])) == (1.0, 0.0)


@pytest.mark.parametrize("solution", ["", "<answer> three </answer>", "<answer> 3.5 </answer>", "<answer> ٣ </answer>"])
def test_a_solution_that_is_no_number_is_a_bad_row(tmp_path: Path, solution: str) -> None:
    row = {"image": embedded(), "problem": "How many?", "solution": "<answer> 3 </answer>"}
    path = parquet(tmp_path / "a.parquet", [row, {**row, "solution": solution}])
    assert complaint("clevr_count", path).startswith("a.parquet:2: solution: is ")


def test_geometry_keeps_answers_and_puts_drawings_where_they_are_named(tmp_path: Path) -> None:
    one, two = embedded(), embedded((8, 8))
    rows = [
        {"images": [one], "problem": "<image>Find x.", "answer": "2 \\sqrt { 221 }", "choices": ["1", "2"]},
        {"images": [one, two], "problem": "See <image>\nand <image>.", "answer": " 3 ", "choices": []},
        {"images": [one, two], "problem": "Find y.", "answer": "4", "choices": []},
        {"images": [one], "problem": "<image><image>Find z.", "answer": "4", "choices": []},
        {"images": [], "problem": "Find z.", "answer": "4", "choices": []},
        {"images": [one], "problem": "<image>", "answer": "4", "choices": []},
        {"images": [one], "problem": "<image>Find <|image_pad|>.", "answer": "4", "choices": []},
    ]
    _, groups, bad = run("geometry3k", parquet(tmp_path / "a.parquet", rows))
    first, second = Image(data=one["bytes"]), Image(data=two["bytes"])
    assert [group.prompt.messages[0].content for group in groups] == [
        (first, "Find x."),
        ("See", first, "and", second, "."),
        (first, second, "Find y."),
    ]
    assert [group.prompt.truth for group in groups] == [
        {"answer": "2 \\sqrt { 221 }"},
        {"answer": "3"},
        {"answer": "4"},
    ]
    assert [(row.line, row.problem) for row in bad] == [
        (4, "has <image> 2 times, for 1 pictures"),
        (5, "is not a list of pictures"),
        (6, "asks nothing"),
        (7, "holds <|image_pad|> as text"),
    ]


@given(st.lists(st.sampled_from(["<image>", "word", " ", "\n"]), max_size=8))
def test_no_picture_of_a_question_is_lost_or_doubled(pieces: list[str]) -> None:
    images = [Image(path=f"{i}.png") for i in range(pieces.count("<image>"))]
    if "word" not in pieces:
        with pytest.raises(RecordError, match="asks nothing"):
            question("".join(pieces), images)
        return
    content = question("".join(pieces), images, suffix="End.").content
    assert [part for part in content if isinstance(part, Image)] == images
    assert "".join(part for part in content if isinstance(part, str)).split("End.")[0].count("word") == pieces.count(
        "word"
    )
    assert str(content[-1]).endswith("End.")


# COCO


CATEGORIES = [{"id": i, "name": name} for i, name in ((1, "person"), (3, "car"), (18, "dog"), (90, "brush"))]


def instances(path: Path, *images: dict[str, Any], of: dict[int, list[tuple[int, list[float], int]]]) -> Path:
    """An annotation file; `of` has (category, xywh, iscrowd) by picture."""
    annotations = [
        {"id": 900 + i, "image_id": name, "category_id": c, "bbox": box, "iscrowd": crowd, "segmentation": [[1.5] * 8]}
        for i, (name, c, box, crowd) in enumerate((name, *item) for name, items in of.items() for item in items)
    ]
    path.write_text(json.dumps({"images": list(images), "annotations": annotations, "categories": CATEGORIES}))
    return path


def shown(name: int, **changes: Any) -> dict[str, Any]:
    return {"id": name, "file_name": f"{name:012}.png", "width": 64, "height": 48, "coco_url": "", **changes}


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """Pictures 1 to 4: two cars and a dog; a person with a crowd and a crowd of dogs; nothing; six brushes."""
    on_disk(tmp_path, *(f"{i:012}.png" for i in (1, 2, 3, 4)))
    of = {
        1: [(3, [7.1, 3.2, 10.2, 8.5], 0), (3, [1, 2, 3, 4], 0), (18, [0, 0, 64, 48.4], 0)],
        2: [(1, [1, 1, 5, 5], 0), (1, [0, 0, 60, 40], 1), (18, [0, 0, 60, 40], 1)],
        4: [(90, [i, 1, 2, 2], 0) for i in range(6)],
    }
    return instances(tmp_path / "instances.json", *map(shown, (1, 2, 3, 4)), of=of)


def test_coco_becomes_one_prompt_a_picture_with_every_category_listed(four: Path) -> None:
    done, groups, bad = run("coco", four)
    assert [group.prompt.id for group in groups] == ["coco-1", "coco-2", "coco-4"]
    assert (done.num_rows, done.left_out, done.counts, bad) == (
        4,
        {"fewer than 1 object": 1},
        {"crowd boxes skipped": 2},
        [],
    )
    assert groups[0].prompt.truth == {
        "objects": [
            {"label": "car", "box": [7.1, 3.2, 17.3, 11.7]},
            {"label": "car", "box": [1.0, 2.0, 4.0, 6.0]},
            {"label": "dog", "box": [0.0, 0.0, 64.0, 48.4]},
        ],
        "num_instances": 3,
    }
    assert words(groups[0]) == (
        "Locate every item from the category list in the image and output the coordinates in JSON format."
        " The category set includes person, car, dog, brush."
    )
    assert words(groups[1]).endswith("includes person, car, brush.")  # of dogs there is only a crowd
    assert groups[1].prompt.truth["num_instances"] == 1
    assert groups[0].prompt.images == (Image(path="000000000001.png"),)


def test_coco_may_list_few_categories_and_never_hides_a_present_one(four: Path) -> None:
    lists = []
    for seed in range(6):
        _, groups, _ = run("coco", four, num_categories=2, wording="Find {categories}, please.", seed=seed)
        lists.append([words(group).removeprefix("Find ").removesuffix(", please.") for group in groups])
    assert {first for first, _, _ in lists} == {"car, dog"}
    assert {second for _, second, _ in lists} == {"person, car", "person, brush"}
    assert {third for _, _, third in lists} == {"person, brush", "car, brush", "dog, brush"}
    again = run("coco", four, num_categories=2, wording="Find {categories}, please.", seed=5)[1]
    assert [words(group).removeprefix("Find ").removesuffix(", please.") for group in again] == lists[5]


def test_negatives_ask_only_for_what_is_not_there(tmp_path: Path) -> None:
    names = range(1, 41)
    on_disk(tmp_path, *(f"{i:012}.png" for i in names))
    of = {i: [(1, [1, 1, 5, 5], 0), (3, [1, 1, 9, 9], 1)] for i in names if i > 4}
    path = instances(tmp_path / "a.json", *map(shown, names), of=of)
    for least, prompts in ((1, 36), (0, 40)):
        _, groups, _ = run("coco", path, negatives=0.25, min_instances=least)
        negative = [group for group in groups if group.prompt.truth["num_instances"] == 0]
        assert (len(groups), len(negative)) == (prompts, round(0.25 * prompts))
        asked = {words(group).partition("includes ")[2] for group in negative if group.prompt.id not in IDS}
        assert asked == {"dog, brush."}
    assert score("vision_r1", "[]", negative[0]) == 3.0
    other = {g.prompt.id for g in run("coco", path, negatives=0.25, seed=1)[1] if not g.prompt.truth["num_instances"]}
    assert other != {group.prompt.id for group in negative}


IDS = {f"coco-{i}" for i in (1, 2, 3, 4)}


def test_bounds_on_objects_count_what_they_leave_out(four: Path) -> None:
    done, groups, _ = run("coco", four, min_instances=0, max_instances=3)
    assert [group.prompt.id for group in groups] == ["coco-1", "coco-2", "coco-3"]
    assert done.left_out == {"more than 3 objects": 1}


@pytest.mark.parametrize(
    ("image", "thing", "field", "problem"),
    [
        ({"file_name": "9.png"}, {}, "file_name", "image '9.png' cannot be found below"),
        ({"file_name": "../000000000001.png"}, {}, "file_name", "image '../000000000001.png' has \"..\" in its path"),
        ({"width": 640, "height": 480}, {}, "width", "is 640 x 480, and the picture 64 x 48"),
        ({"id": None}, {}, "id", "is missing"),
        ({"id": [1]}, {}, "id", "is [1]"),
        ({"id": 2}, {}, "id", "gives 'coco-2', as "),
        ({}, {"category_id": 4}, "annotations[1]", "has the unknown category 4"),
        ({}, {"bbox": [1, 2, 3]}, "annotations[1]", "has no box of four numbers"),
        ({}, {"bbox": [1, 2, 0, 4]}, "annotations[1]", "has the box [1.0, 2.0, 1.0, 6.0], which is empty"),
        ({}, {"bbox": [1, 2, 3, "4"]}, "annotations[1].bbox", "is '4', not a number"),
        ({}, {"bbox": [1, 2, 70, 4]}, "annotations[1]", "has the box [1.0, 2.0, 71.0, 6.0], outside the picture"),
    ],
)
def test_a_bad_picture_of_coco_says_what_is_wrong(
    tmp_path: Path, image: dict[str, Any], thing: dict[str, Any], field: str, problem: str
) -> None:
    on_disk(tmp_path, "000000000001.png", "000000000002.png")
    path = instances(
        tmp_path / "a.json", shown(2), {**shown(1), **image}, of={2: [(1, [1, 1, 5, 5], 0)], 1: [(1, [1, 1, 5, 5], 0)]}
    )
    data = json.loads(path.read_text())
    data["annotations"][1] |= thing
    path.write_text(json.dumps(data))
    _, groups, (bad,) = run("coco", path, negatives=0.01)
    assert [group.prompt.id for group in groups] == ["coco-2"]
    assert (bad.line, bad.field) == (2, field)
    assert bad.problem.startswith(problem)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[]", "has no list 'images'"),
        ('{"images": [], "annotations": []}', "has no list 'categories'"),
        ("{", "is not JSON (Expecting property name"),
        ('{"images": [], "annotations": [{"id": 1}], "categories": []}', "names no picture or no category"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "is not {id, name}"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}',
            "has 'a' twice",
        ),
    ],
)
def test_a_file_that_is_not_of_cocos_form_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "a.json").write_text(content)
    assert problem in complaint("coco", tmp_path / "a.json")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"wording": "qwne"}, "wording is 'qwne'; did you mean qwen?; or write a question with {categories} where"),
        ({"negatives": 1.0}, "negatives is 1.0; give a share from 0 to below 1"),
        ({"num_categories": 0}, "num_categories is 0; list at least 1, or leave it out to list all"),
        ({"wordng": "qwen"}, "source coco has no option 'wordng'; it takes wording, suffix, num_categories"),
    ],
)
def test_options_are_checked_before_anything_is_read(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    assert complaint("coco", tmp_path / "a.json", **options).startswith(sentence)


@given(st.decimals(0, 10_000, places=2), st.decimals(0, 10_000, places=2))
def test_corners_are_the_sum_that_a_person_would_write(start: Any, length: Any) -> None:
    assert _plus(float(start), float(length)) == float(start + length)


# Files


def test_several_folders_of_pictures_need_a_root(tmp_path: Path) -> None:
    on_disk(tmp_path, "coco/7.png")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        lines(tmp_path / name / "rows.jsonl", [rec_row()])
    paths = (tmp_path / "a" / "rows.jsonl", tmp_path / "b" / "rows.jsonl")
    assert "rows.jsonl:1: image: image 'coco/7.png' is a path and there is no data root; set data.root" in complaint(
        "vlm_r1_rec", *paths
    )
    done, groups, _ = run("vlm_r1_rec", *paths, root=tmp_path)
    assert (done.root, [group.prompt.id for group in groups]) == (tmp_path, ["vlm_r1_rec-1", "vlm_r1_rec-2"])


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    on_disk(tmp_path, "secret.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "7.png").symlink_to(tmp_path / "secret.png")
    path = lines(tmp_path / "root" / "a.jsonl", [rec_row(image="7.png")])
    assert "image: image '7.png' is a link that leads out of the data root" in complaint("vlm_r1_rec", path)


def test_the_header_of_a_picture_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_disk(tmp_path, "7.png")
    calls: list[Image] = []
    monkeypatch.setattr(ImageStore, "size", lambda self, image: calls.append(image) or (64, 48))
    pictures = Pictures(tmp_path)
    image = pictures.image("7.png", "image")
    assert [pictures.size(image, "image") for _ in range(3)] == [(64, 48)] * 3
    assert len(calls) == 1


def test_a_turned_photograph_is_refused_since_its_boxes_would_lie_elsewhere(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    turned = {"bytes": picture((64, 48), "JPEG", exif=exif), "path": None}
    path = parquet(tmp_path / "a.parquet", [vision_row(image=turned)])
    assert "width: is 64 x 48, and the picture 48 x 64; give the picture to which" in complaint("vision_r1", path)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", b"image", "a.csv: ends in '.csv'; these are read: .jsonl, .json, .parquet, .arrow, folders of"),
        ("a.parquet", b"nonsense", "a.parquet: is not Parquet that can be read"),
        ("a.arrow", b"nonsense", "a.arrow: is not Arrow that can be read"),
        ("a.arrow", b"ARROW1 nonsense", "a.arrow: is not Arrow that can be read"),
        ("a.arrow", b"", "a.arrow: is not Arrow that can be read"),
        ("a.json", b"[1, ", "a.json: is not JSON (Expecting value at column 5); write one whole JSON value"),
        ("a.json", b'["\xff"]', "a.json: is not UTF-8 (byte 3)"),
        ("a.jsonl", b'{"\xff"}\n', "a.jsonl:1: row: is not UTF-8 (byte 3)"),
        ("a.jsonl", b"\n{\n", "a.jsonl:2: row: is not JSON"),
        ("a.json", b'{"image": "7.png"}\n', "a.json:1: problem: is missing; the row cannot be converted without it"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "a.jsonl: is a Git LFS pointer and not the data"),
        ("a.jsonl", b"", "import: gives no prompt (0 rows: 0 bad, 0 left out)"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert complaint("vlm_r1_rec", tmp_path / name).startswith(sentence)


def test_missing_files_and_columns_are_named(tmp_path: Path) -> None:
    path = parquet(tmp_path / "train.parquet", [{"image": embedded(), "question": "How many?"}])
    assert complaint("clevr_count", tmp_path / "trian.parquet").startswith("trian.parquet: is not there; did you mean")
    assert complaint("clevr_count", tmp_path / "zzzzzzzz").endswith("nothing is downloaded: fetch it first")
    assert complaint("clevr_count", path) == (
        "train.parquet: lacks the column 'problem'; this source needs image, problem, solution;"
        " the file has image, question"
    )


def test_folders_that_are_no_saved_set_are_refused(tmp_path: Path) -> None:
    plain = tmp_path / "data"
    plain.mkdir()
    assert "is a folder without state.json" in complaint("vision_r1", plain)
    (plain / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert (
        complaint("vision_r1", plain) == "data: holds the splits of a data set; name one of them: data/train, data/test"
    )
    for name in ("../secret.arrow", "a.txt", 3):
        saved = saved_to_disk(tmp_path / f"saved{len(str(name))}", [])
        (saved / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
        assert f"names the file {name!r}" in complaint("vision_r1", saved)
    (plain / "dataset_dict.json").unlink()
    (plain / "state.json").write_text("[]")
    assert "has no list '_data_files'" in complaint("vision_r1", plain)


def test_rows_are_read_as_they_are_written(tmp_path: Path) -> None:
    """Nothing but the row at hand is held: the second row fails, and the first has been handed on."""
    path = parquet(tmp_path / "a.parquet", [vision_row(), vision_row(num_instances=9)])
    rows = SOURCES["vision_r1"](Published(paths=(path,), pictures=Pictures(tmp_path)))
    assert isinstance(rows, Iterator)
    first = next(rows).read()
    assert first.prompt is not None
    with pytest.raises(RecordError, match="is 9, and the solution has 2 boxes"):
        next(rows).read()


# The command


def test_the_command_writes_prompts_and_tells_what_became_of_every_row(
    four: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(four.parent)
    (four.parent / "there").mkdir()
    data = json.loads(four.read_text())
    data["images"].append({**shown(5), "file_name": "5.png"})
    four.write_text(json.dumps(data))
    command = ["data", "import", "coco", "instances.json", "there/prompts.parquet", "--max-instances", "5"]
    assert main(command) == 2
    assert capsys.readouterr().err.startswith("sightline: error: instances.json:5: file_name: image '5.png' cannot be")
    assert list((four.parent / "there").iterdir()) == []
    assert main([*command, "--on-bad", "skip"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "instances.json:5: file_name: image '5.png' cannot be found below . (No such file or directory);"
        " check the path and data.root",
        "2 prompts in there/prompts.parquet, of 5 rows; 1 left out (fewer than 1 object);"
        " 1 left out (more than 5 objects); 1 bad; 2 crowd boxes skipped",
        "image paths are relative to .: set data.root to it when you use there/prompts.parquet (data check: --root)",
    ]
    report = check(["there/prompts.parquet"], store_for=lambda file: ImageStore(Path()))
    assert (report.num_groups, report.bad_rows, report.tasks) == (2, (), {"detect": 2})


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("coc a.json b.jsonl", "source 'coc' is unknown; did you mean coco?"),
        ("zzz a.json b.jsonl", "source 'zzz' is unknown; known are " + ", ".join(SOURCES)),
        ("clevr_count a b.jsonl --seed 1", "source clevr_count has no option 'seed'; it takes suffix"),
        ("coco a.json", "data import: name the files to read, and last the file to write"),
        ("coco a.json b.csv", "b.csv: ends in '.csv'; data files are .jsonl or .parquet"),
        ("coco a.json there.jsonl", "there.jsonl is there already; give a new name, or remove it"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.jsonl").touch()
    assert main(["data", "import", *arguments.split()]) == 2
    assert capsys.readouterr().err == f"sightline: error: {line}\n"


def test_every_source_and_option_is_on_the_page() -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    options = {option for source in SOURCES.values() for option in inspect.signature(source).parameters}
    flags = {f"--{option.replace('_', '-')}" for option in options - {"published"}}
    for name in {*SOURCES, *flags}:
        assert re.search(rf"^\| `{name}` \|", page, re.MULTILINE), name
