import json

import pytest
import torch

from sightline.batch import Batch, PromptTokens
from sightline.data.stream import Stream
from sightline.records import Completion, Group, Label, Pair, Prompt, Rank, RecordError, Reward
from sightline.train.feeds import (
    GroupFeed,
    check_signals,
    comparison_batch,
    comparisons_of,
    group_batch,
    imitated,
    of_aspect,
    pairs_of,
    with_reference,
)
from tests.tiny import tiny_groups, tiny_inputs, tiny_loaded, tiny_prompt

INPUTS = tiny_inputs(tiny_loaded())


def group(*signals: object, num_answers: int = 3) -> Group:
    answers = tuple(Completion(text=text) for text in ("red", "blue circle", "green", "a")[:num_answers])
    return Group(prompt=tiny_prompt("a", num_images=1), completions=answers, signals=signals)  # type: ignore[arg-type]


def batch_of(groups: list[Group], objective: str) -> Batch:
    return group_batch(groups, objective=objective, prompt=INPUTS.prompt, answer=INPUTS.answer)


def texts(batch: Batch) -> list[str]:
    return [
        INPUTS.text(row[:length]) for row, length in zip(batch.tokens.tolist(), batch.lengths.tolist(), strict=True)
    ]


def test_pairs_are_made_within_one_aspect():
    helpful, safe = Pair(chosen=0, rejected=1, aspect="helpfulness"), Pair(chosen=1, rejected=0, aspect="safety")
    with pytest.raises(RecordError, match="helpfulness, safety"):
        pairs_of(group(helpful, safe))
    assert pairs_of(group(helpful, safe, Pair(chosen=2, rejected=0))) == [(2, 0, 1.0)], "overall where it is said"
    assert pairs_of(of_aspect(group(helpful, safe), "safety")) == [(1, 0, 1.0)]
    assert pairs_of(group(helpful)) == [(0, 1, 1.0)]


def test_pairs_come_from_pairs_and_from_ranks_and_ties_name_none():
    assert pairs_of(group(Pair(chosen=1, rejected=0, margin=0.5))) == [(1, 0, 0.5)]
    assert pairs_of(group(Pair(chosen=1, rejected=0, tie=True))) == []
    assert pairs_of(group(Rank(ranks=(0, 2, 2)))) == [(0, 1, 2.0), (0, 2, 2.0)]
    assert pairs_of(group(Label(completion=0, good=True), Reward(completion=1, value=1.0))) == []


def test_a_pair_without_margin_has_margin_one_and_a_repeated_pair_counts_once():
    assert pairs_of(group(Pair(chosen=0, rejected=1), Pair(chosen=0, rejected=1, margin=3.0))) == [(0, 1, 3.0)]
    assert pairs_of(group(Pair(chosen=0, rejected=1))) == [(0, 1, 1.0)]


def test_answers_to_imitate_are_the_best_the_good_or_all():
    assert imitated(group(Pair(chosen=2, rejected=0), Pair(chosen=0, rejected=1))) == [2]
    assert imitated(group(Rank(ranks=(1, 0, 0)))) == [1, 2]
    assert imitated(group(Label(completion=1, good=True), Label(completion=0, good=False))) == [1]
    assert imitated(group()) == [0, 1, 2]
    assert imitated(group(Label(completion=0, good=False))) == []


@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_a_group_that_teaches_nothing_is_refused(objective: str):
    with pytest.raises(RecordError, match="signals"):
        check_signals(group(Label(completion=0, good=False)), objective=objective)
    check_signals(group(Pair(chosen=0, rejected=1)), objective=objective)


def test_a_dpo_batch_holds_the_answers_in_pairs_and_the_pairs():
    groups = [group(Pair(chosen=2, rejected=0)), group(Rank(ranks=(1, 0, 2)))]
    batch = batch_of(groups, "dpo")
    assert texts(batch) == ["red", "green", "red", "blue circle", "green"]
    assert batch.group.tolist() == [0, 0, 1, 1, 1]
    assert sorted(batch.pairs.tolist()) == [[1, 0], [2, 4], [3, 2], [3, 4]]
    assert batch.pair_columns["margin"].tolist() == [1.0, 1.0, 1.0, 2.0]


def test_an_sft_batch_holds_the_answers_to_imitate_with_their_end():
    batch = batch_of([group(Pair(chosen=2, rejected=0)), group()], "sft")
    assert texts(batch) == ["green", "red", "blue circle", "green"]
    ends = batch.tokens[torch.arange(4), batch.lengths - 1]
    assert set(ends.tolist()) == {INPUTS.end_of_turn}
    assert len(batch.pairs) == 0


def test_no_groups_make_an_empty_batch():
    for objective in ("sft", "dpo"):
        assert batch_of([], objective).num_answers == 0


def feed(groups: list[Group], *, batch_size: int = 4) -> GroupFeed[Group]:
    stream = Stream(len(groups), seed=3, batch_size=batch_size, epochs=2)
    return GroupFeed(groups, stream, lambda rows: batch_of(list(rows), "dpo"), lambda batch: batch.tokens.float())


def names(batch: Batch) -> list[str]:
    return [prompt.id for prompt in batch.prompts]


@pytest.mark.parametrize("before", range(6))
def test_a_feed_goes_on_from_its_kept_state_as_if_nothing_had_been(before: int):
    groups = tiny_groups(10)
    whole = [names(batch) for batch in feed(groups)]
    assert len(whole) == 6
    first = feed(groups)
    for _ in range(before):
        next(first)
    kept = json.loads(json.dumps(first.state()))
    again = feed(groups)
    again.restore(kept, {})
    assert [names(batch) for batch in again] == whole[before:]


def test_a_state_of_other_data_is_refused():
    other = feed(tiny_groups(9)).state()
    with pytest.raises(ValueError, match="num_items 9 and this run has 10"):
        feed(tiny_groups(10)).restore(other, {})


def test_a_feed_fills_the_reference_in():
    batch = next(feed(tiny_groups(4)))
    assert torch.equal(batch.columns["ref_logprobs"], batch.tokens.float())


def test_without_a_reference_there_is_no_column():
    assert with_reference(batch_of(tiny_groups(2), "sft"), None).columns == {}


def test_comparisons_are_pairs_ties_and_every_two_of_a_rank():
    completions = tuple(Completion(text=word) for word in ("a", "b", "c"))
    signals = (
        Pair(chosen=2, rejected=0, margin=0.3, aspect="x"),
        Pair(chosen=0, rejected=1, tie=True),
        Rank(ranks=(1, 0, 1)),
    )
    group = Group(prompt=Prompt(id="p", messages=()), completions=completions, signals=signals)
    found = [(one.better, one.worse, one.margin, one.tie, one.aspect) for one in comparisons_of(group)]
    assert found == [
        (2, 0, 0.3, False, "x"),
        (0, 1, 1.0, True, "overall"),
        (1, 0, 1.0, False, "overall"),
        (0, 2, 0.0, True, "overall"),
        (1, 2, 1.0, False, "overall"),
    ]


def test_a_comparison_batch_names_rows_margins_ties_and_aspects():
    completions = tuple(Completion(text=word) for word in ("a", "b", "c"))
    one = Group(
        prompt=Prompt(id="p", messages=()), completions=completions, signals=(Pair(chosen=2, rejected=1, aspect="x"),)
    )
    two = Group(
        prompt=Prompt(id="q", messages=()), completions=completions, signals=(Pair(chosen=0, rejected=2, tie=True),)
    )
    batch = comparison_batch(
        [one, two],
        attributes=("x",),
        prompt=lambda prompt: PromptTokens(id=prompt.id, ids=(1,)),
        answer=lambda answer: (ord(answer.text),),
    )
    assert batch.tokens[:, 0].tolist() == [ord(c) for c in "bcac"]
    assert batch.pairs.tolist() == [[1, 0], [2, 3]]
    assert {name: column.tolist() for name, column in batch.pair_columns.items()} == {
        "margin": [1.0, 1.0],
        "tie": [0.0, 1.0],
        "aspect": [1.0, 0.0],
    }
