"""Which comparisons become pairs, and how many of them are wrong."""

from dataclasses import replace

import pytest

from sightline.build.labels import balanced, choose_pairs, wrong_shares
from sightline.records import Completion, Group, Pair
from sightline.world.prompts import exact_group
from sightline.world.tasks import make_question, sentence


def described(*pairs: tuple[int, int]) -> Group:
    """Of one scene with three objects: all of them, one left out, one left out and one invented; and who wins."""
    question = next(q for i in range(99) if len((q := make_question("describe", "train", i)).scene.labels) == 3)
    labels = question.scene.labels
    texts = [sentence(labels), sentence(labels[1:]), f"{sentence(labels[1:])} A red star. A red star. A red star."]
    signals = tuple(Pair(chosen=chosen, rejected=rejected, source="person") for chosen, rejected in pairs)
    exact = exact_group(question)
    return replace(exact, completions=tuple(Completion(text=text) for text in texts), signals=signals)


def test_balanced_takes_one_pair_that_each_length_wins():
    found = balanced(described((0, 1), (0, 2), (1, 2)))
    assert found is not None
    words = [len(answer.text.split()) for answer in found.completions]
    assert [words[pair.chosen] > words[pair.rejected] for pair in found.signals] == [False, True]
    assert balanced(described((0, 1))) is None


def test_best_against_worst_takes_the_first_pair_and_ties_teach_nothing():
    group = described((0, 2), (0, 1))
    best = choose_pairs(group, "best_worst")
    assert best is not None
    assert len(best.signals) == 1
    assert [answer.text for answer in best.completions] == [group.completions[0].text, group.completions[2].text]
    tied = replace(group, signals=(Pair(chosen=0, rejected=1, tie=True, source="person"),))
    assert choose_pairs(tied, "all") is None


def test_shares_of_wrong_pairs_by_which_answer_is_longer():
    right, wrong = described((0, 1), (0, 2)), described((1, 0), (2, 0))
    found = wrong_shares([right, right, wrong])
    assert found["all"] == pytest.approx(1 / 3)
    assert found["longer"] == pytest.approx(1 / 3)  # 0 over 1 twice, and 2 over 0 once
    assert found["shorter"] == pytest.approx(1 / 3)
    assert wrong_shares([described((0, 1))]) == {"all": 0.0, "longer": 0.0}
