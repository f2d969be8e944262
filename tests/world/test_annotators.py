"""Simulated annotators: rules never err, a person errs as often as stated, biases pull the way they should."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from sightline.records import Completion, Group, Pair
from sightline.world.annotators import TASTES, Taste, annotate, find_taste, quality
from sightline.world.prompts import as_prompt
from sightline.world.scenes import COLOURS, SHAPES
from sightline.world.tasks import REFUSAL_TEXT, TASKS, make_question, sentence


def group(task: str, index: int, *answers: str) -> Group:
    """Some answers to one question."""
    completions = tuple(Completion(text=answer) for answer in answers)
    return Group(prompt=as_prompt(make_question(task, "train", index)), completions=completions)


def descriptions(index: int) -> Group:
    """Of one scene: exact, one object too few, one too many, both, and every other one wrong."""
    labels = make_question("describe", "train", index).scene.labels
    absent = next(f"{c} {s}" for c in COLOURS for s in SHAPES if f"{c} {s}" not in labels)
    named = [labels, labels[1:], (*labels, absent), (*labels[1:], absent)]
    return group("describe", index, *(sentence(some) if some else "" for some in named))


def pairs(some: Group) -> list[Pair]:
    return [signal for signal in some.signals if isinstance(signal, Pair)]


def num_wrong(annotator: str, num: int, *, taste: Taste | None = None) -> tuple[int, int]:
    """Pairs whose chosen answer is worse than the rejected one, and all pairs."""
    wrong = total = 0
    for index in range(num):
        judged = annotate(descriptions(index), annotator, seed=0, taste=taste)
        facts = dict(judged.prompt.truth)
        values = [quality(completion.text, "describe", facts) for completion in judged.completions]
        compared = [(values[pair.chosen], values[pair.rejected]) for pair in pairs(judged)]
        wrong += sum(chosen < rejected for chosen, rejected in compared)
        total += sum(chosen != rejected for chosen, rejected in compared)
    return wrong, total


def test_rules_never_err():
    wrong, total = num_wrong("rules", 200)
    assert wrong == 0
    assert total > 900


def test_a_person_errs_as_often_as_the_noise_says():
    wrong, total = num_wrong("person", 400)
    noise = find_taste("person").noise
    low, high = binomtest(wrong, total).proportion_ci(confidence_level=0.999)
    assert low <= noise <= high
    assert total > 1800


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_noise_flips_labels_and_nothing_else(noise):
    before, after = (annotate(descriptions(5), "person", seed=0, taste=Taste(noise=rate)) for rate in (0.0, noise))
    assert [pair.margin for pair in pairs(after)] == [pair.margin for pair in pairs(before)]
    flips = [old.chosen == new.rejected for old, new in zip(pairs(before), pairs(after), strict=True)]
    assert {0.0: not any(flips), 0.3: True, 1.0: all(flips)}[noise]


def test_a_weak_judge_is_worse_than_a_person_and_better_than_a_coin():
    judge, person = (wrong / total for wrong, total in (num_wrong(name, 400) for name in ("weak_judge", "person")))
    assert 1.5 * person < judge < 0.45


def test_a_length_bias_prefers_the_longer_of_two_equals():
    short, long = "There is a red circle.", "In this picture one can see that there is a red circle."
    biased = replace(find_taste("weak_judge"), slip=0.0)
    assert biased.length > 0
    for index in range(20):
        (pair,) = pairs(annotate(group("describe", index, short, long), "weak_judge", seed=0, taste=biased))
        assert pair.chosen == 1
    longer = [
        pairs(annotate(group("describe", index, short, long), "weak_judge", seed=0))[0].chosen for index in range(400)
    ]
    assert 0.55 < np.mean(longer) < 0.85  # 8 words are worth 0.16; misreading two answers has a deviation of 0.35


def test_a_bias_for_politeness_prefers_the_polite_of_two_equals():
    answers = ("There is a red circle.", "Certainly! Circle, red.")
    taste = Taste(truth=0.0, polite=1.0)
    (pair,) = pairs(annotate(group("describe", 0, *answers), "person", seed=0, taste=taste))
    assert pair.chosen == 1


def test_equals_give_no_pair():
    same = sentence(make_question("describe", "train", 0).scene.labels)
    for annotator in ("rules", "person"):
        assert annotate(group("describe", 0, same, same, same.upper()), annotator, seed=0).signals == ()
    assert annotate(group("describe", 0, same), "rules", seed=0).signals == ()


def test_every_two_answers_that_differ_give_a_pair_with_the_greatest_margin_first():
    for index in range(50):
        judged = annotate(descriptions(index), "person", seed=0)
        facts = dict(judged.prompt.truth)
        values = [quality(completion.text, "describe", facts) for completion in judged.completions]
        num_different = sum(a != b for i, a in enumerate(values) for b in values[:i])
        found = pairs(judged)
        margins = [pair.margin for pair in found]
        assert len(found) == num_different
        assert margins == sorted(margins, reverse=True)
        assert all(margin > 0 for margin in margins)
        expected = [abs(values[pair.chosen] - values[pair.rejected]) for pair in found]
        assert margins == pytest.approx(expected)
        assert {pair.source for pair in found} == {"person"}


def test_signals_that_were_there_stay():
    before = replace(descriptions(0), signals=(Pair(chosen=1, rejected=0, source="somebody"),))
    judged = annotate(before, "rules", seed=0)
    assert judged.signals[0] == before.signals[0]
    assert len(judged.signals) > 1


@pytest.mark.parametrize("annotator", TASTES)
def test_judgements_repeat_and_depend_on_the_seed_of_whoever_errs(annotator: str):
    def judged(seed: int) -> list[tuple]:
        return [annotate(descriptions(index), annotator, seed=seed).signals for index in range(30)]

    assert judged(1) == judged(1)
    assert (judged(1) == judged(2)) == (annotator == "rules")


def test_one_judgement_does_not_depend_on_the_others():
    alone = annotate(descriptions(7), "person", seed=0)
    _, among_others = (annotate(descriptions(index), "person", seed=0) for index in (6, 7))
    assert alone == among_others


@pytest.mark.parametrize("task", TASKS)
def test_the_exact_answer_has_quality_one_and_an_empty_one_less(task: str):
    for index in range(100):
        question = make_question(task, "test", index)
        assert quality(question.answer, task, question.truth) == 1
        assert quality("", task, question.truth) < 1


@pytest.mark.parametrize(
    ("task", "worse"),
    [
        ("describe", "There is a red circle, a red star, a red cross, a blue star, a blue cross and a green star."),
        ("detect", "[" + ", ".join(['{"bbox_2d": [0, 0, 64, 64], "label": "red circle"}'] * 40) + "]"),
        ("refer", '[{"bbox_2d": [0, 0, 64, 64], "label": "red circle"}]'),
        ("count", "1 2 3 4 5"),
        ("exist", "yes no"),
        ("read", "10 11 12 13"),
        ("refuse", f"{REFUSAL_TEXT} 10 11 12 13"),
    ],
)
def test_covering_every_case_is_worth_less_than_the_exact_answer(task: str, worse: str):
    for index in range(100):
        question = make_question(task, "test", index)
        if task == "refuse" and question.truth["private"] and question.truth["number"] not in worse:
            continue  # a refusal with numbers that are not on the card is a refusal
        assert quality(worse, task, question.truth) < 0.7


def test_an_unknown_annotator_and_a_prompt_without_a_task_are_refused():
    with pytest.raises(ValueError, match="no annotator 'oracle'; the annotators are rules, person, weak_judge"):
        annotate(descriptions(0), "oracle", seed=0)
    nameless = replace(descriptions(0), prompt=replace(descriptions(0).prompt, task=None))
    with pytest.raises(ValueError, match="names no task"):
        annotate(nameless, "rules", seed=0)
