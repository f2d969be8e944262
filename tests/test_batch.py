import pytest
import torch

from sightline.batch import make_batch, split
from tests.tiny import prompt_tokens, ragged_batch, with_random_reference


def test_a_batch_pads_answers_on_the_right_and_scores_all_their_tokens():
    batch = make_batch([prompt_tokens("a"), prompt_tokens("b")], [[(7, 8, 9), (7,)], [(5, 6)]])
    assert batch.tokens.tolist() == [[7, 8, 9], [7, 0, 0], [5, 6, 0]]
    assert batch.mask.int().tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    assert batch.group.tolist() == [0, 0, 1]
    assert batch.lengths.tolist() == [3, 1, 2]


def test_an_answer_without_tokens_is_refused_with_its_prompt():
    with pytest.raises(ValueError, match="'b' has an answer without tokens"):
        make_batch([prompt_tokens("a"), prompt_tokens("b")], [[(1,)], [()]])


def test_a_selection_keeps_answers_columns_and_whole_pairs_in_the_new_order():
    batch = with_random_reference(ragged_batch(num_answers=2))
    part = batch.select([2, 0])
    assert [prompt.id for prompt in part.prompts] == ["none", "one"]
    assert part.group.tolist() == [0, 0, 1, 1]
    assert part.pairs.tolist() == [[2, 3], [0, 1]], "pairs keep their order, and name the new rows"
    assert part.tokens.shape[1] == int(part.lengths.max())
    for new, old in enumerate((4, 5, 0, 1)):
        length = int(batch.lengths[old])
        assert int(part.lengths[new]) == length
        assert torch.equal(part.tokens[new, :length], batch.tokens[old, :length])
        for name in batch.columns:
            assert torch.equal(part.columns[name][new, :length], batch.columns[name][old, :length])


def test_a_pair_across_prompts_is_left_out_of_a_selection_that_holds_only_one_of_them():
    prompts = [prompt_tokens("a"), prompt_tokens("b")]
    batch = make_batch(prompts, [[(1, 2)], [(3,)]], pairs=[(0, 1)], pair_columns={"margin": [2.0]})
    assert batch.select([0]).pairs.shape == (0, 2)
    assert batch.select([0]).pair_columns["margin"].shape == (0,)
    assert batch.select([1, 0]).pairs.tolist() == [[1, 0]]


def test_a_selection_of_nothing_is_an_empty_batch():
    part = ragged_batch().select([])
    assert part.num_answers == 0
    assert part.tokens.shape == (0, 0)


def test_a_group_over_the_budget_is_cut_between_its_answers_each_part_with_the_prompt():
    prompt = prompt_tokens("a")
    batch = make_batch([prompt], [[(1, 2, 3), (4,), (5, 6), (7, 8, 9)]]).with_columns(number=torch.arange(4))
    parts = split(batch, token_budget=len(prompt.ids) + 3)
    assert [part.columns["number"].tolist() for part in parts] == [[0, 1, 2], [3]]
    assert [part.prompts for part in parts] == [(prompt,), (prompt,)]
    assert [part.tokens.shape[1] for part in parts] == [3, 3]
    alone = split(batch, token_budget=1)
    assert [part.tokens.tolist() for part in alone] == [[[1, 2, 3]], [[4]], [[5, 6]], [[7, 8, 9]]]


def test_a_cut_keeps_the_answers_of_a_pair_together():
    pairs, margin = [(1, 0), (2, 3), (4, 5), (5, 6)], {"margin": [1.0, 2.0, 3.0, 4.0]}
    batch = make_batch([prompt_tokens("a")], [[(n, n) for n in range(1, 9)]], pairs=pairs, pair_columns=margin)
    parts = split(batch, token_budget=1)
    assert [part.num_answers for part in parts] == [2, 2, 3, 1]
    assert [part.pairs.tolist() for part in parts] == [[[1, 0]], [[0, 1]], [[0, 1], [1, 2]], []]
    assert [part.pair_columns["margin"].tolist() for part in parts] == [[1.0], [2.0], [3.0, 4.0], []]


def test_groups_under_the_budget_stay_whole():
    batch = ragged_batch(num_answers=2)
    assert len(split(batch, token_budget=10_000)) == 1
    assert sum(part.num_answers for part in split(batch, token_budget=1)) == batch.num_answers
