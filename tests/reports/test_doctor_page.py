"""The doctor's page: every line with its cure, pictures with both kinds of boxes, hostile text inert."""

from pathlib import Path

from sightline.reports.doctor_page import Line, Shown, doctor_page, write_doctor_page
from tests.reports.invented import HOSTILE, assert_self_contained, png

LINES = (
    Line(name="data", state="pass", said="12 rows"),
    Line(name="boxes", state="fail", said=HOSTILE, cure=HOSTILE),
    Line(name="reference", state="skip", said="none"),
    Line(name="lengths", state="look", said="long"),
)


def shown(**changes: object) -> Shown:
    values: dict = {
        "prompt": HOSTILE,
        "asked": HOSTILE,
        "answer": HOSTILE,
        "whose": "Sampled",
        "picture": png(),
        "width": 64,
        "height": 64,
        "facts": {"stored": "64 x 64"},
    }
    return Shown(**(values | changes))


def test_every_line_stands_with_its_state_and_cure():
    reader = assert_self_contained(doctor_page(name="run", lines=LINES, shown=(), recipe="name: run\n"))
    assert "1 of 4 checks failed" in reader.text
    assert reader.text.count("What to do:") == 1
    assert [word for word in ("pass", "fail", "not here", "look") if word not in reader.text] == []
    assert "Pictures" not in reader.text


def test_a_page_without_a_failure_says_so():
    document = doctor_page(name="run", lines=LINES[:1], shown=(), recipe="")
    assert "Nothing is wrong" in document


def test_boxes_of_truth_and_answer_are_drawn_apart():
    box = ("cat", (4.0, 6.0, 20.0, 22.0))
    document = doctor_page(
        name="run", lines=LINES, shown=(shown(true_boxes=(box, box), said_boxes=(box,)), shown()), recipe=""
    )
    reader = assert_self_contained(document)
    assert "In truth: 2 boxes" in reader.text
    assert "As answered: 1 box" in reader.text
    assert document.count("<svg") == 2
    assert document.count("<img") == 3


def test_the_page_is_written_as_a_whole(tmp_path: Path):
    path = write_doctor_page(tmp_path / "new" / "page.html", name="run", lines=LINES, shown=(shown(),), recipe="")
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]
