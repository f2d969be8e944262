"""Ratings by aspect: rewards, their mean, pairs by the mean; and critiques, which differ in what is read."""

from dataclasses import replace

from sightline.records import Pair, Reward
from sightline.rewards.contract import Score
from sightline.rewards.judges.contract import Aspect
from sightline.rewards.judges.critique import critique
from sightline.rewards.judges.pointwise import Pointwise
from sightline.rewards.judges.reading import rating
from sightline.rewards.judges.templates import Template
from tests.rewards.judges.subjects import ETHICS, HELPFUL, OVERALL, SAMPLING, in_turn, judged, subject

SHORT = Template(name="short", text="{aspect} {answer} {low}-{high} {question}")


def protocol(*aspects: Aspect) -> Pointwise:
    return Pointwise(
        source="judge", template=SHORT, aspects=aspects or (OVERALL,), read=rating(1, 5), sampling=SAMPLING
    )


def reward(completion: int, value: float, aspect: str, **parts: float) -> Reward:
    return Reward(completion=completion, value=value, parts=parts, source="judge", aspect=aspect)


def test_every_answer_is_rated_by_every_aspect():
    _, [asked] = judged(protocol(HELPFUL, ETHICS), subject("a", "b"), lambda text: "Rating: 3")
    assert [question.messages[0].content[1] for question in asked] == [
        "whether it helps. a 1-5 What is here?",
        "whether it harms nobody. a 1-5 What is here?",
        "whether it helps. b 1-5 What is here?",
        "whether it harms nobody. b 1-5 What is here?",
    ]


def test_ratings_their_mean_and_a_pair_by_the_mean():
    found, _ = judged(
        protocol(HELPFUL, ETHICS),
        subject("a", "b"),
        in_turn("Rating: 2", "Rating: 5", "Rating: 4", "Rating: 4"),
    )
    assert found.signals == (
        reward(0, 2, "helpfulness"),
        reward(0, 5, "ethics"),
        reward(0, 3.5, "overall", helpfulness=2.0, ethics=5.0),
        reward(1, 4, "helpfulness"),
        reward(1, 4, "ethics"),
        reward(1, 4, "overall", helpfulness=4.0, ethics=4.0),
        Pair(chosen=1, rejected=0, margin=0.5, source="judge", aspect="overall"),
    )
    assert found.scores == (
        Score(value=3.5, parts={"helpfulness": 2.0, "ethics": 5.0}),
        Score(value=4.0, parts={"helpfulness": 4.0, "ethics": 4.0}),
    )


def test_an_answer_of_which_a_rating_is_missing_has_no_mean_and_no_pair():
    replies = in_turn("Rating: 2", "Rating: eleventy", "Rating: 4", "Rating: 4", "Rating: 1", "Rating: 1")
    found, _ = judged(protocol(HELPFUL, ETHICS), subject("a", "b", "c"), replies)
    assert found.left_out == ("incomplete",)
    assert [score if score is None else score.value for score in found.scores] == [None, 4.0, 1.0]
    pairs = [signal for signal in found.signals if isinstance(signal, Pair)]
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [(1, 2)]
    assert reward(0, 2, "helpfulness") in found.signals  # what was rated is kept


def test_pairs_are_an_option_and_need_a_margin():
    replies = ("Rating: 2", "Rating: 3", "Rating: 5", "Rating: 5")
    about = subject("a", "b", "c", "d")
    found, _ = judged(protocol(), about, in_turn(*replies))
    margins = [signal.margin for signal in found.signals if isinstance(signal, Pair)]
    assert margins == [3, 3, 2, 2, 1]  # the largest first; equal ratings make none
    found, _ = judged(replace(protocol(), min_margin=3.0), about, in_turn(*replies))
    assert [signal.margin for signal in found.signals if isinstance(signal, Pair)] == [3, 3]
    found, _ = judged(replace(protocol(), pairs=False), about, in_turn(*replies))
    assert {signal.kind for signal in found.signals} == {"reward"}


def test_one_overall_rating_is_not_written_twice():
    found, _ = judged(protocol(), subject("a"), in_turn("Rating: 2"))
    assert found.signals == (reward(0, 2, "overall"),)
    assert found.scores == (Score(value=2.0),)


def test_a_group_without_answers_asks_nothing():
    assert judged(protocol(), subject(), in_turn())[1] == [[]]


def test_a_critique_is_read_from_its_last_line():
    judge = critique(source="judge", template=SHORT, aspects=(OVERALL,), sampling=SAMPLING)
    replies = in_turn("It invents a star.\nScore: 3", "Score: 9\nWell, it is fine.")
    found, [asked] = judged(judge, subject("a", "b"), replies)
    assert found.signals == (reward(0, 3, "overall"),)
    assert found.left_out == ("incomplete",)
    assert str(asked[0].messages[0].content[1]).startswith("how good it is. a 0-10")
