"""Answers spoilt on request: how often, and what stays the same when it is asked again."""

import pytest

from sightline.records import Message
from sightline.serving.contract import Answer, ChatRequest, Failure
from sightline.serving.misbehave import (
    NONSENSE,
    REFUSAL,
    Misbehaviour,
    is_malformed,
    misbehaving,
    read_misbehaviour,
)
from tests.serving.servers import saying, text_of


def requests(num: int, seed: int = 0) -> list[ChatRequest]:
    return [
        ChatRequest(messages=(Message(role="user", content=(f"question {n}",)),), max_tokens=5, seed=seed)
        for n in range(num)
    ]


def texts(found: list[Answer | Failure]) -> list[str | int]:
    return [one.status if isinstance(one, Failure) else one.choices[0].text for one in found]


def test_without_settings_nothing_is_spoilt():
    good = saying(text_of)
    assert misbehaving(good, Misbehaviour())(requests(20)) == good(requests(20))


def test_shares_are_about_what_was_asked_for_and_answers_stay_with_their_requests():
    how = Misbehaviour(errors=0.1, malformed=0.1, refusals=0.1, broken=0.1, retry_after=2.0)
    found = misbehaving(saying(text_of), how)(requests(3000))
    said = texts(found)
    failed = [one for one in found if isinstance(one, Failure)]
    assert len(failed) == pytest.approx(300, abs=60)
    assert {one.status for one in failed} == {429, 500}
    assert {one.retry_after for one in failed if one.status == 429} == {2.0}
    assert sum(one in NONSENSE for one in said) == pytest.approx(270, abs=60)
    assert sum(one == REFUSAL for one in said) == pytest.approx(243, abs=60)
    assert sum(isinstance(one, Answer) and one.broken for one in found) == pytest.approx(270, abs=60)
    good = [(n, one) for n, one in enumerate(said) if isinstance(one, str) and one not in (*NONSENSE, REFUSAL)]
    assert all(one == f"question {n}" for n, one in good)


def test_nonsense_is_lasting_and_errors_pass():
    how = Misbehaviour(errors=0.5, malformed=0.3)
    spoilt = misbehaving(saying(text_of), how)
    tries = [texts(spoilt(requests(50))) for _ in range(12)]
    lasting = [{one for one in said if isinstance(one, str)} for said in zip(*tries, strict=True)]
    assert all(len(said) == 1 for said in lasting)
    nonsense = [next(iter(said)) in NONSENSE for said in lasting]
    assert nonsense == [is_malformed(request, how) for request in requests(50)]
    assert 0 < sum(nonsense) < 50


def test_another_seed_errs_elsewhere_and_the_same_one_in_the_same_places():
    first, again, other = (
        texts(misbehaving(saying(text_of), Misbehaviour(malformed=0.3, seed=seed))(requests(50))) for seed in (1, 1, 2)
    )
    assert first == again != other
    asked_again = texts(misbehaving(saying(text_of), Misbehaviour(malformed=0.3, seed=1))(requests(50, seed=1)))
    assert asked_again != first  # another seed of the request is another question


def test_answers_and_errors_are_held_back():
    found = misbehaving(saying(text_of), Misbehaviour(errors=0.5, seconds=0.2))(requests(20))
    assert {one.seconds for one in found} == {0.2}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"eror": 0.1}, "there is no 'eror'; did you mean errors?"),
        ({"errors": "often"}, 'errors is "often"; give a number'),
        ({"errors": True}, "errors is true; give a number"),
        ({"malformed": 1.5}, "malformed is 1.5; give a share from 0 to 1"),
        ({"seconds": -1}, "seconds and retry_after are 0 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, object], says: str):
    with pytest.raises(ValueError, match=says):
        read_misbehaviour(values)
    assert read_misbehaviour({"errors": 0.1, "seed": 3}) == Misbehaviour(errors=0.1, seed=3)
