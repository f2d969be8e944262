"""The second act on the demo's page."""

from dataclasses import fields

from sightline.evaluation.gain import BoxGain
from sightline.reports.box_act import BoxCard, Drawn, box_act, gain_lines
from sightline.reports.demo_report import demo_page
from tests.reports.invented import HOSTILE, Reader, assert_self_contained, boxes, demo, metric, png


def test_the_section_has_result_table_gain_and_pictures():
    page = assert_self_contained(demo_page(demo(boxes=boxes())))
    for words in (
        "mAP rises from 30.0% to 50.0%.",
        "GRPO, by the rule",
        "SFT, true boxes",
        "Boxes placed better: +16.0% of +20.0% mAP.",
        "500 boxes fit better and 90 worse",
        "130 objects were hit that had not been, and 10 were lost",
        "False boxes dropped: \u22121.0%. There were 110 and are 60.",
        "What is really there",
    ):
        assert words in page.text, words
    assert {"#boxes"} <= {attributes.get("href") for attributes in page.having("a")}


def test_a_demo_without_a_second_act_has_no_section():
    assert "Second act" not in assert_self_contained(demo_page(demo())).text


def test_a_gain_is_told_in_three_lines():
    counts = dict.fromkeys(("hit_before", "hit_after", "added", "lost", "better", "worse"), 1)
    gain = BoxGain(
        before=0.1,
        after=0.1,
        shares={"found": 0.0, "placed": 0.0, "false": 0.0},
        counts=counts | {"false_before": 2, "false_after": 2},
    )
    assert len(gain_lines(gain)) == 3


def test_hostile_text_anywhere_is_inert():
    hostile = metric(HOSTILE, description=HOSTILE, values=boxes().table[0].values, change=None, gap_closed=None)
    drawn = (Drawn(row=HOSTILE, boxes=((HOSTILE, (0.0, 0.0, 5.0, 5.0)),), note=HOSTILE),)
    act = boxes(
        sentence=HOSTILE,
        lead=HOSTILE,
        table=(hostile, hostile),
        curves={HOSTILE: {HOSTILE: [(0.0, 1.0), (1.0, 2.0)]}},
        gallery=(BoxCard(picture=png(), width=64, height=48, drawn=drawn),),
    )
    assert {field.name for field in fields(act)} == {
        *("sentence", "lead", "rows", "table", "gain", "curves", "gallery")
    }
    Reader(box_act(act))
    assert_self_contained(demo_page(demo(boxes=act)))
