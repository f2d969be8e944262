"""Probes: every built-in default stands, every published form that can be gamed is shown falling, bugs are findings."""

import json
import random
from pathlib import Path

import pytest

from sightline.records import Completion
from sightline.registry import catalogue, find
from sightline.rewards import hostile_boxes
from sightline.rewards.boxes import SPACES, LabelledBox, match_boxes, parse_boxes, to_frame
from sightline.rewards.contract import RewardContext
from sightline.rewards.findings import as_plain
from sightline.rewards.hostile import DRESSES, dressed, says_the_same
from sightline.rewards.library import load_builtin
from sightline.rewards.models import MODEL_REWARDS
from sightline.rewards.probes import KIND_OF, KINDS, SHAPING, check_values, probe

MINE = '''
import re
import time

from sightline.rewards.contract import Score


def exact(completion, context, *, bonus: float = 1.0):
    if "count" not in context.truth:
        return None
    return Score(value=bonus * (completion.text == str(context.truth["count"])), parts={"said": 1.0})


def substring(completion, context):
    gold = context.truth.get("answer")
    return None if gold is None else float(completion.text in gold or gold in completion.text)


def hangs_when_long(completion, context):
    if len(completion.text) > 150_000:
        time.sleep(60)
    return exact(completion, context)


def hangs(completion, context):
    time.sleep(60)


def not_a_number(completion, context):
    if not completion.text.strip():
        return float("nan")
    return exact(completion, context)


def tagged(completion, context):
    """Reads answer tags, and fails without them."""
    answer = re.search("<answer>(.*)</answer>", completion.text, re.DOTALL).group(1)
    return float(answer == str(context.truth["count"]))


def starts_a_list(completion, context):
    return float(completion.text.startswith("["))


def looks(completion, context):
    """The share of the picture that is not ground has to be told."""
    if context.truth.get("count") is None:
        return None
    width, height = context.load_image().size
    return exact(completion, context) if (width, height) == context.image_size else 9.0


def wants_a_sign(completion, context):
    return float(context.truth["sign"] in completion.text)
'''
DEFAULTS = [name for name in catalogue()["reward"] if name not in ("math", *MODEL_REWARDS)]


@pytest.fixture
def mine(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def fell_for(probed) -> set[str]:
    return {attack.name for kind in probed.kinds for attack in kind.attacks if attack.verdict == "at least"}


def broke_on(probed) -> dict[str, str]:
    return {a.name: str(a.problem) for kind in probed.kinds for a in kind.attacks if a.verdict == "problem"}


def test_every_built_in_reward_has_its_probe():
    assert sorted([*KIND_OF, *SHAPING, *MODEL_REWARDS]) == sorted(catalogue()["reward"])
    assert set(KIND_OF.values()) | {"answer"} == set(KINDS)


def test_a_reward_that_a_model_gives_cannot_be_probed_without_it():
    with pytest.raises(ValueError, match=r"learned is given by the reward model runs/x, which is not here"):
        probe("learned", options={"run": "runs/x"}, cases=1)


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_built_in_default_stands(name):
    probed = probe(name, cases=6)
    assert probed.passed, (fell_for(probed), broke_on(probed))
    [kind] = probed.kinds
    assert len(kind.attacks) >= 18
    assert kind.right >= kind.honest > 0
    assert (probed.beside is not None) == (name in SHAPING)


def test_math_stands():
    pytest.importorskip("math_verify", reason="the extra `math` is not installed")
    assert probe("math", cases=4).passed


@pytest.mark.parametrize(
    ("name", "options", "dress"),
    [
        ("vision_r1", {"space": "original"}, "bare"),
        ("vision_r1", {"space": "thousand"}, "bare"),
        ("rec_iou", {"space": "unit"}, "bare"),
        ("rec_iou", {"threshold": 0.5}, "bare"),
        ("point_in_box", {"space": "thousand"}, "bare"),
        ("map", {"span": "answer_tag"}, "answer tags"),
        ("number", {"span": "boxed"}, "boxed"),
        ("count", {"partial": 0.9, "span": "answer_tag"}, "answer tags"),
        ("refusal", {"span": "answer_tag"}, "answer tags"),
        ("format", {"template": "number"}, "bare"),
        ("format", {"template": "yes_no"}, "bare"),
        ("format", {"template": "choice"}, "bare"),
        ("format", {"template": "answer_tag"}, "answer tags"),
        ("think_answer", {}, "think and answer tags"),
        ("vision_r1", {"phase": {"steps": [[0.0, "early"], [0.5, "late"]]}}, "bare"),
    ],
)
def test_options_that_change_the_form_of_answers_stand_too(name, options, dress):
    probed = probe(name, options=options, cases=2)
    assert probed.passed, (fell_for(probed), broke_on(probed))
    assert probed.kinds[0].dress == dress


SPAM = {"every box twice", "every box eight times", "a hundred random boxes added", "fifty broken items added"}


@pytest.mark.parametrize(
    ("name", "options", "attacks"),
    [
        ("vision_r1", {"mode": "released"}, SPAM | {"every label swapped"}),
        ("vision_r1", {"mode": "released", "phase": "early"}, SPAM | {"every label swapped"}),
        ("map", {"form": "vlm_r1"}, SPAM | {"all options: each label at each box", "huge JSON"}),
        ("visual_rft", {"form": "published"}, {"every label swapped", "every box twice", "every box eight times"}),
        ("od_length", {"form": "vlm_r1"}, {"every box twice"}),
    ],
)
def test_published_forms_are_shown_failing(name, options, attacks):
    probed = probe(name, options=options, cases=2)
    assert not probed.passed
    assert attacks <= fell_for(probed)


def test_the_papers_vision_r1_fails_for_labels_and_boxes_of_nothing():
    probed = probe("vision_r1", options={"mode": "paper", "phase": "early"}, cases=3)
    assert fell_for(probed) == {"every label swapped"}


def test_a_rule_that_loses_late_in_a_run_is_found_with_the_progress_at_which_it_does():
    [kind] = probe("vision_r1", options={"mode": "paper"}, cases=2).kinds
    wins = {attack.name: attack.wins_at for attack in kind.attacks if attack.failed}
    assert wins["format only"] == wins["every box eight times"] == ("0.5",)
    assert wins["every label swapped"] == ("0", "0.5")
    assert {attack.stage for attack in kind.attacks if attack.failed} == {"0.5"}


LATE = {"step": 0.0}
MOVES = {
    "phase": {"steps": [[0.0, "off"], [0.3, "early"], [0.6, "late"]]},
    "full_from": {"ramp": [1.0, 0.9], "between": [0.1, 0.9]},
}
CLIMBS = {"phase": {"skill": "recall", "levels": ["off", "early", "late"], "up": 0.8}}


@pytest.mark.parametrize("options", [{}, LATE, MOVES, CLIMBS, {"phase": "late", "space": "unit"}], ids=str)
@pytest.mark.parametrize("seed", [0, 7])
def test_the_default_vision_r1_stands_at_every_stage(options, seed):
    probed = probe("vision_r1", options=options, cases=3, seed=seed)
    assert probed.passed, [(a.name, a.wins_at) for a in probed.kinds[0].attacks if a.failed]


def test_a_value_of_a_later_stage_is_checked_before_anything_is_attacked():
    with pytest.raises(ValueError, match=r"phase is 'lat'; did you mean late\?"):
        probe("vision_r1", options={"phase": {"steps": [[0.0, "early"], [0.5, "lat"]]}}, cases=1)


def test_a_reward_of_ones_own_is_probed_over_the_whole_course(mine):
    (mine / "mine.py").write_text(
        "def gives_up(completion, context):\n"
        "    if 'count' not in context.truth:\n"
        "        return None\n"
        "    right = completion.text == str(context.truth['count'])\n"
        "    return float(right or (context.progress > 0.6 and not completion.text.strip()))\n"
    )
    [kind] = probe("mine:gives_up", truth="count", cases=2).kinds
    assert {a.name: a.wins_at for a in kind.attacks if a.failed} == {"empty": ("0.75", "1")}


def test_a_substring_match_is_shown_failing(mine):
    probed = probe("mine:substring", truth="answer", cases=4)
    assert {"empty", "all options", "denied", "inside another word"} <= fell_for(probed)
    assert not probed.passed


def test_where_the_released_code_fails_is_a_finding():
    assert {"deep nesting", "huge JSON"} <= set(broke_on(probe("vision_r1", options={"mode": "released"}, cases=2)))


def test_an_attack_that_is_the_truth_is_exempt():
    [kind] = probe("yes_no", cases=12).kinds
    always = {attack.name: attack for attack in kind.attacks}
    yes, no = always["always yes"], always["always no"]
    assert yes.num_exempt + no.num_exempt == 12
    assert yes.num_exempt == no.num_judged > 0
    assert yes.worst == no.worst == 0
    assert says_the_same("Yes.", " yes")


def test_an_option_without_meaning_for_the_honest_answer_is_told():
    [kind] = probe("vision_r1", options={"mode": "paper", "phase": "late"}, cases=2).kinds
    assert kind.form_is_enough
    [kind] = probe("vision_r1", options={"mode": "paper"}, cases=2).kinds
    assert [(stage.name, stage.form >= stage.honest) for stage in kind.stages] == [("0", False), ("0.5", True)]
    assert not probe("vision_r1", cases=2).kinds[0].form_is_enough


def test_repetition_is_free_where_kinds_are_counted():
    probed = probe("hallucination", options={"kinds": True}, cases=3)
    assert fell_for(probed) == {"everything there named twice"}


def test_the_same_seed_gives_the_same_findings():
    first, again, other = (as_plain(probe("box_f1", cases=3, seed=seed)) for seed in (5, 5, 6))
    assert first == again
    assert first["kinds"] != other["kinds"]
    assert json.loads(json.dumps(first))["passed"] is True


@pytest.mark.parametrize(
    ("name", "options", "more", "says"),
    [
        ("vision_r2", {}, {}, "did you mean vision_r1"),
        ("vision_r1", {"mod": "paper"}, {}, "no option 'mod'; did you mean mode"),
        ("vision_r1", {"mode": "papre"}, {}, "mode is 'papre'; did you mean paper"),
        ("format", {"template": "jsn_boxes"}, {}, "did you mean json_boxes"),
        ("count", {}, {"truth": "counts"}, "truth is 'counts'; did you mean count"),
        ("length", {}, {"beside": "mapp"}, "did you mean map"),
    ],
)
def test_mistakes_are_refused_before_anything_is_attacked(name, options, more, says):
    with pytest.raises(ValueError, match=says):
        probe(name, options=options, **more)


def test_values_of_options_are_checked_by_one_honest_answer():
    check_values("vision_r1", {"mode": "released", "phase": "late", "space": "unit"})
    with pytest.raises(ValueError, match="phase is 'begin'"):
        check_values("vision_r1", {"phase": "begin"})


def test_a_reward_of_ones_own_finds_its_kind_of_truth(mine):
    probed = probe("mine:exact", options={"bonus": 0.5}, cases=2)
    assert probed.passed
    assert [(kind.truth, kind.honest) for kind in probed.kinds] == [("count", 0.5)]
    assert set(probed.left_out.values()) == {"no opinion"}


def test_a_reward_that_hangs_on_some_answers_is_a_finding(mine):
    probed = probe("mine:hangs_when_long", truth="count", cases=2, timeout=0.3)
    assert set(broke_on(probed)) == {"huge JSON", "a number of a million digits"}
    assert set(broke_on(probed).values()) == {"took longer than 0.3 seconds"}


def test_a_reward_that_hangs_on_everything_is_given_up_at_once(mine):
    probed = probe("mine:hangs", cases=8, timeout=0.3)
    assert probed.left_out == {"boxes": "took longer than 0.3 seconds"}
    assert not probed.passed


def test_a_reward_that_is_no_number_is_a_finding(mine):
    probed = probe("mine:not_a_number", truth="count", cases=2)
    assert set(broke_on(probed)) == {"empty"}
    assert "give back finite numbers" in broke_on(probed)["empty"]


def test_a_reward_that_reads_tags_is_probed_in_tags_and_raising_is_a_finding(mine):
    probed = probe("mine:tagged", truth="count", cases=2)
    assert probed.kinds[0].dress == "answer tags"
    assert set(broke_on(probed)) == {"empty", "whitespace"}
    assert "AttributeError" in broke_on(probed)["empty"]
    assert not fell_for(probed)
    assert not probed.passed


def test_a_reward_that_reads_no_truth_is_probed_beside_one_that_does(mine):
    assert probe("mine:starts_a_list", truth="boxes", beside="map", cases=2).passed


def test_a_reward_that_looks_gets_a_picture(mine):
    assert probe("mine:looks", truth="count", cases=2).passed


def test_a_truth_that_probes_do_not_know_leaves_nothing_probed(mine):
    probed = probe("mine:wants_a_sign", cases=2)
    assert not probed.passed
    assert not probed.kinds
    assert set(probed.left_out.values()) == {"raised KeyError: 'sign' (mine.py, line 54)"}


def test_a_mistaken_name_of_ones_own_is_one_sentence(mine):
    with pytest.raises(ValueError, match=r"^reward 'mine:exat': mine has no 'exat'; did you mean exact\?$"):
        probe("mine:exat")


@pytest.mark.parametrize("space", SPACES)
def test_honest_boxes_drop_one_object_and_have_the_promised_overlap(space):
    for seed in range(8):
        case = hostile_boxes.boxes(random.Random(seed), space)
        assert 4 <= len(case.truth["objects"]) <= 7
        true = [LabelledBox(label=item["label"], box=tuple(item["box"])) for item in case.truth["objects"]]
        assert len({item.label for item in true}) == len(true)
        for text, num, overlap in ((case.right, len(true), 1.0), (case.honest, len(true) - 1, 0.71)):
            given = parse_boxes(text)
            assert given is not None
            sizes = {"image_size": case.image_size, "seen_size": case.seen_size}
            moved = to_frame([item.box for item in given], space, **sizes)
            placed = [LabelledBox(label=item.label, box=box) for item, box in zip(given, moved, strict=True)]
            pairs = match_boxes(placed, true)
            assert len(pairs) == len(given) == num
            assert all(iou == pytest.approx(overlap, abs=0.0125) for _, _, iou in pairs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dress", DRESSES)
def test_attacks_are_dressed_but_for_those_that_are_not_meant_to_be(kind, dress):
    opening, closing = DRESSES[dress]
    texts = dressed(KINDS[kind](random.Random(0), "seen"), dress)
    whole = [text for text in texts.values() if text.startswith(opening) and text.endswith(closing)]
    assert len(whole) >= max(len(texts) - 3, 15)


@pytest.mark.parametrize("name", KIND_OF)
def test_the_exact_answer_earns_full_marks(name):
    if name == "math":
        pytest.importorskip("math_verify", reason="the extra `math` is not installed")
    load_builtin()
    for seed in range(3):
        case = KINDS[KIND_OF[name]](random.Random(seed), "seen")
        context = RewardContext(truth=case.truth, image_size=case.image_size, seen_size=case.seen_size)
        given = find("reward", name)(Completion(text=case.right), context)
        value = given if isinstance(given, float) else given.value
        assert value == pytest.approx(3 if name in ("vision_r1", "visual_rft") else 1)
