"""The demo's page: what it says, that it says nothing too much, and that it is inert."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from sightline.reports.demo_report import demo_page, result_sentence, write_demo_report
from sightline.reports.gallery import Answer
from sightline.reports.results import change_text
from tests.reports.invented import HOSTILE, ROWS, around, assert_self_contained, card, demo, metric


def test_the_headline_says_the_result():
    sentence = "Hallucination falls from 24.0% to 9.0%, while coverage goes from 78.0% to 77.5%."
    assert result_sentence(demo()) == sentence
    assert sentence in assert_self_contained(demo_page(demo())).text


def test_an_unclear_change_is_not_called_one():
    unclear = metric(change={"dpo": around(-0.02, 0.05)})
    assert "does not clearly change" in result_sentence(demo(table=(unclear,)))
    assert "rises from" in result_sentence(demo(table=(metric(change={"dpo": around(0.4)}),)))


def test_the_table_has_four_rows_with_intervals_changes_and_the_gap():
    reader = assert_self_contained(demo_page(demo()))
    assert len(reader.having("tr", role="row")) == 1 + len(ROWS)
    for words in (
        "24.0%[23.0%, 25.0%]",
        "\u221262.5%",
        "[\u221265.5%, \u221259.5%]",
        "\u22120.5 points",
        "[\u22121.5, +0.5]",
        "71%[67%, 75%]",
    ):
        assert words in reader.text.replace(" [", "[").replace("points[", "points [").replace(
            "[\u221265", "[\u221265"
        ), words


def test_better_worse_and_unclear_are_said_in_words():
    worse = metric("other", change={"sft": around(0.1), "dpo": around(-0.1), "ceiling": around(0.0)})
    text = assert_self_contained(demo_page(demo(table=(worse,)))).text
    assert "(worse)" in text
    assert "(better)" in text
    assert "(no clear change)" in text


def test_a_metric_shown_beside_is_neither_better_nor_worse():
    beside = metric("length", better="neither", unit="number", gap_closed=None)
    text = assert_self_contained(demo_page(demo(table=(beside,)))).text
    assert "(changed)" in text
    assert "shown beside" in text
    assert "better)" not in text


@pytest.mark.parametrize(
    ("kind", "unit", "expected"),
    [
        ("relative", "percent", "\u221212.3%"),
        ("absolute", "percent", "\u221212.3 points"),
        ("absolute", "number", "\u22120.12"),
    ],
)
def test_changes_carry_their_unit(kind: str, unit: str, expected: str):
    assert change_text(metric(change_kind=kind, unit=unit), -0.1234) == expected


def test_everything_of_the_result_is_on_the_page():
    result = demo()
    text = assert_self_contained(demo_page(result)).text
    for words in (
        result.title,
        result.subtitle,
        *result.settings,
        *result.notes,
        *result.last_lines,
        *result.curves,
    ):
        assert words in text


def test_sections_without_content_are_left_out():
    bare = demo(gallery=(), curves={}, last_lines=(), table=(metric(change=None, gap_closed=None),))
    reader = assert_self_contained(demo_page(bare))
    anchors = [link["href"] for link in reader.having("a")]
    assert anchors == ["#result", "#intervals", "#notes"]
    assert "Share of the gap closed" not in reader.text


def test_a_metric_without_a_row_is_refused():
    partial = metric(values={"base": around(0.2)})
    with pytest.raises(ValueError, match="metric hallucination has no value for sft"):
        demo_page(demo(table=(partial,)))
    with pytest.raises(ValueError, match="too short"):
        demo_page(demo(rows=("base",)))


def test_rows_with_other_names_are_shown_under_them():
    rows = ("start", "kto", "best")
    values = dict(zip(rows, map(around, (0.3, 0.2, 0.1)), strict=True))
    change = {"kto": around(-0.3), "best": around(-0.6)}
    other = metric(values=values, change=change, gap_closed={"kto": around(0.5)})
    assert "kto" in assert_self_contained(demo_page(demo(rows=rows, table=(other,), gallery=()))).text


def test_hostile_text_anywhere_is_inert(tmp_path: Path):
    hostile = metric(HOSTILE, description=HOSTILE)
    said = Answer(row="base", text=HOSTILE, missed=(HOSTILE,))
    result = demo(
        **dict.fromkeys(("title", "subtitle"), HOSTILE),
        settings={HOSTILE: HOSTILE},
        table=(hostile, hostile),
        curves={HOSTILE: {HOSTILE: [(0.0, 1.0), (1.0, 2.0)]}},
        gallery=(card(answers=(said,), prompt=HOSTILE, boxes=((HOSTILE, (0.0, 0.0, 5.0, 5.0)),)),),
        notes=(HOSTILE,),
        last_lines=(HOSTILE,),
    )
    assert {field.name for field in fields(result)} == {
        *("title", "subtitle", "settings", "rows", "table", "curves", "gallery", "notes", "last_lines"),
        "boxes",  # test_box_act.py
    }
    path = write_demo_report(tmp_path / "report.html", result)
    assert_self_contained(path.read_text(encoding="utf-8"))


def test_the_same_result_gives_the_same_page(tmp_path: Path):
    path = write_demo_report(tmp_path / "report.html", demo())
    first = path.read_bytes()
    write_demo_report(path, replace(demo()))
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]
