"""Scene cards: marks on the text, boxes on the picture, and what is refused."""

import pytest

from sightline.reports.gallery import (
    Answer,
    answer_html,
    card_html,
    gallery,
    marked_text,
    num_wrong,
    picture_html,
)
from tests.reports.invented import HOSTILE, Reader, assert_self_contained, card, png

NAMES, STYLES = {"base": "Base", "dpo": "DPO"}, {"base": 0, "dpo": 2}


def answer(text: str, *spans: tuple[int, int, str], missed: tuple[str, ...] = ()) -> Answer:
    return Answer(row="base", text=text, spans=spans, missed=missed)  # type: ignore[arg-type]


def test_spans_are_marked_and_wrong_ones_said_in_words_too():
    marked = marked_text(answer("a star, a moon", (10, 14, "correct"), (2, 6, "hallucinated")))
    assert marked == (
        'a <mark class="hallucinated">star</mark><span class="unseen"> (not in the picture)</span>, '
        'a <mark class="correct">moon</mark>'
    )


def test_marking_changes_no_word():
    text = 'a <b>star</b> & a "moon"'
    marked = Reader(marked_text(answer(text, (5, 9, "correct"), (19, 23, "correct"))))
    assert marked.text == text


@pytest.mark.parametrize("spans", [[(0, 3), (2, 5)], [(0, 99)], [(3, 3)], [(-2, 2)]])
def test_spans_that_do_not_fit_are_refused(spans: list[tuple[int, int]]):
    with pytest.raises(ValueError, match="give spans inside the text"):
        marked_text(answer("a star", *[(start, end, "correct") for start, end in spans]))


def test_an_empty_answer_is_shown_as_such():
    assert "(empty answer)" in marked_text(answer(" \n"))


def test_mistakes_are_tallied():
    wrong = answer("a star", (2, 6, "hallucinated"), missed=("moon", "sun"))
    assert num_wrong(wrong) == 3
    assert "1 absent · 2 missed" in answer_html(wrong, names=NAMES, styles=STYLES)
    assert "all right" in answer_html(answer("a star", (2, 6, "correct")), names=NAMES, styles=STYLES)
    assert "all right" not in answer_html(answer("nothing that counts"), names=NAMES, styles=STYLES)


def test_missed_objects_are_listed():
    reader = Reader(answer_html(answer("hm", missed=("blue star", "red star")), names=NAMES, styles=STYLES))
    assert len(reader.having("li", class_="missed")) == 2
    assert "Not named" in reader.text


def test_the_picture_says_what_is_in_it_and_draws_its_boxes():
    reader = Reader(picture_html(card()))
    (image,) = reader.having("img")
    assert image["alt"] == "Picture with red circle, green square"
    edges = [rect for rect in reader.having("rect") if (rect["class"] or "").startswith("edge")]
    assert [(rect["x"], rect["y"], rect["width"], rect["height"]) for rect in edges] == [
        ("4.00", "6.00", "16.00", "16.00"),
        ("30.00", "20.00", "20.00", "20.00"),
    ]
    assert reader.having("svg")[0]["viewbox"] == "0 0 64 48"


def test_small_drawings_keep_hard_edges_and_photographs_do_not():
    assert "picture pixels" in picture_html(card())
    assert "picture pixels" not in picture_html(card(picture=png(800, 600), width=800, height=600))


def test_a_picture_without_boxes_has_no_overlay():
    assert "<svg" not in picture_html(card(boxes=()))
    assert "In the picture" not in card_html(card(boxes=()), names=NAMES, styles=STYLES, number=1)


def test_boxes_are_kept_inside_the_picture():
    reader = Reader(picture_html(card(boxes=(("big", (-10.0, -10.0, 99.0, 99.0)),))))
    edge = next(rect for rect in reader.having("rect") if (rect["class"] or "").startswith("edge"))
    assert (edge["x"], edge["y"], edge["width"], edge["height"]) == ("0.00", "0.00", "64.00", "48.00")


@pytest.mark.parametrize("box", [(5, 5, 1, 9), (5, 9, 9, 5), (float("nan"), 0, 1, 1)])
def test_boxes_that_are_none_are_refused(box: tuple[float, float, float, float]):
    with pytest.raises(ValueError, match="box of star"):
        picture_html(card(boxes=(("star", box),)))


def test_labels_stay_on_the_picture_and_apart_when_there_is_room():
    boxes = tuple((f"object {i}", (2.0 + 30 * i, 14.0, 22.0 + 30 * i, 34.0)) for i in range(2))
    plates = [r for r in Reader(picture_html(card(boxes=boxes))).having("rect") if "plate" in (r["class"] or "")]
    sides = [(float(p["x"] or 0), float(p["x"] or 0) + float(p["width"] or 0)) for p in plates]
    assert sides[0][1] <= sides[1][0] or plates[0]["y"] != plates[1]["y"]
    assert all(left >= 0 and right <= 64 for left, right in sides)


def test_the_switch_for_the_boxes_needs_no_script():
    reader = assert_self_contained(gallery([card(), card()], names=NAMES, styles=STYLES))
    assert reader.having("input", type="checkbox", id="show-boxes")
    assert reader.having("label", for_="show-boxes")
    assert len(reader.having("article")) == 2


def test_hostile_text_is_inert():
    said = Answer(row=HOSTILE, text=HOSTILE, spans=((0, 8, "hallucinated"),), missed=(HOSTILE,))
    hostile = card(boxes=((HOSTILE, (0.0, 0.0, 9.0, 9.0)),), answers=(said,), prompt=HOSTILE)
    reader = assert_self_contained(gallery([hostile], names={}, styles={}))
    assert "alert" in reader.text
