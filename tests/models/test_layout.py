import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.batch import Batch, PromptTokens, make_batch
from sightline.models.layout import Layout, pack, packed_length
from tests.tiny import picture, prompt_tokens, tiny_processor

IMAGE = 3


@st.composite
def ragged_batches(draw: st.DrawFn) -> Batch:
    """Prompts of 1 to 6 tokens with 1 to 4 answers of 1 to 40 tokens; every token id occurs once."""
    ids = iter(range(10, 10_000))
    shapes = draw(
        st.lists(
            st.tuples(st.integers(1, 6), st.lists(st.integers(1, 40), min_size=1, max_size=4)),
            min_size=1,
            max_size=5,
        )
    )
    prompts = [PromptTokens(id=str(i), ids=tuple(next(ids) for _ in range(n))) for i, (n, _) in enumerate(shapes)]
    answers = [[[next(ids) for _ in range(n)] for n in lengths] for _, lengths in shapes]
    return make_batch(prompts, answers)


def conversations(batch: Batch) -> list[list[int]]:
    """Each answer's whole conversation, its last token included."""
    return [
        [*batch.prompts[prompt].ids, *row[:length]]
        for prompt, row, length in zip(batch.group.tolist(), batch.tokens.tolist(), batch.lengths.tolist(), strict=True)
    ]


def visible(layout: Layout) -> dict[int, list[int]]:
    """For each place the tokens that it may read, in order, from the rows alone."""
    seen: dict[int, list[int]] = {}
    prompts = [row[mask].tolist() for row, mask in zip(layout.prompts.places, layout.prompts.mask, strict=True)]
    rows = [(row, []) for row in prompts]
    for bucket in layout.answers:
        for row, mask, prompt in zip(bucket.places, bucket.mask, bucket.prompt.tolist(), strict=True):
            rows.append((row[mask].tolist(), prompts[prompt]))
    for row, before in rows:
        for number, place in enumerate(row):
            assert place not in seen, "each place stands in one row"
            seen[place] = layout.tokens[[*before, *row[: number + 1]]].tolist()
    return seen


def test_the_worked_example_of_the_docstring_holds():
    batch = make_batch([PromptTokens(id="a", ids=(11, 12, 13))], [[(21, 22), (31,)]])
    layout = pack(batch, image_token=IMAGE)
    assert layout.tokens.tolist() == [11, 12, 13, 21]
    assert layout.positions.tolist() == [0, 1, 2, 3]
    assert layout.predicting.tolist() == [[2, 3], [2, 0]]
    assert layout.prompts.places.tolist() == [[0, 1, 2]]
    assert [rows.places.tolist() for rows in layout.answers] == [[[3]]]


def test_two_prompts_and_three_answers_by_hand():
    prompts = [PromptTokens(id="a", ids=(11, 12)), PromptTokens(id="b", ids=(13, 14, 15))]
    batch = make_batch(prompts, [[(21, 22, 23), (31, 32)], [(41, 42)]])
    layout = pack(batch, image_token=IMAGE)
    assert layout.tokens.tolist() == [11, 12, 21, 22, 31, 13, 14, 15, 41]
    assert layout.positions.tolist() == [0, 1, 2, 3, 2, 0, 1, 2, 3]
    assert layout.predicting.tolist() == [[1, 2, 3], [1, 4, 0], [7, 8, 0]]
    assert packed_length(batch) == 9


def test_places_of_each_image_are_found_in_reading_order():
    prompt = prompt_tokens("a", images=(picture(5), picture(6)), num_text=6)
    batch = make_batch([prompt_tokens("before", num_text=3), prompt], [[(9, 9)], [(9,)]])
    layout = pack(batch, image_token=tiny_processor().image_token_id)
    start = 3 + 1
    assert [(key, places.tolist()) for key, places in layout.images] == [
        ("picture-5", [start + 1, start + 2, start + 3, start + 4]),
        ("picture-6", [start + 6, start + 7, start + 8, start + 9]),
    ]


def test_placeholders_that_do_not_match_the_images_are_refused_with_the_prompt():
    prompt = prompt_tokens("odd", images=(picture(0),))
    spelt = PromptTokens(id="odd", ids=(*prompt.ids, tiny_processor().image_token_id), images=prompt.images)
    with pytest.raises(ValueError, match=r"prompt 'odd' has 5 image placeholder tokens .* make 4 features"):
        pack(make_batch([spelt], [[(9,)]]), image_token=tiny_processor().image_token_id)


@settings(max_examples=60, deadline=None)
@given(ragged_batches())
def test_every_token_that_is_read_lies_in_one_place(batch: Batch):
    layout = pack(batch, image_token=IMAGE)
    wanted = [t for prompt in batch.prompts for t in prompt.ids]
    wanted += [
        t
        for talk, p in zip(conversations(batch), batch.group.tolist(), strict=True)
        for t in talk[len(batch.prompts[p].ids) : -1]
    ]
    assert sorted(layout.tokens.tolist()) == sorted(wanted)
    assert len(layout.tokens) == packed_length(batch)


@settings(max_examples=60, deadline=None)
@given(ragged_batches())
def test_each_place_reads_its_own_conversation_and_counts_its_position(batch: Batch):
    layout = pack(batch, image_token=IMAGE)
    seen = visible(layout)
    assert sorted(seen) == list(range(len(layout.tokens)))
    starts = {tuple(talk[:n]) for talk in conversations(batch) for n in range(1, len(talk))}
    starts |= {prompt.ids[:n] for prompt in batch.prompts for n in range(1, len(prompt.ids) + 1)}
    for place, tokens in seen.items():
        assert tuple(tokens) in starts
        assert int(layout.positions[place]) == len(tokens) - 1


@settings(max_examples=60, deadline=None)
@given(ragged_batches())
def test_each_answer_token_is_predicted_from_all_that_stands_before_it(batch: Batch):
    layout = pack(batch, image_token=IMAGE)
    seen = visible(layout)
    for n, talk in enumerate(conversations(batch)):
        length = int(batch.lengths[n])
        for t in range(length):
            assert seen[int(layout.predicting[n, t])] == talk[: len(talk) - length + t]


@settings(max_examples=60, deadline=None)
@given(ragged_batches())
def test_gathering_rows_laid_end_to_end_gives_back_the_packed_order(batch: Batch):
    layout = pack(batch, image_token=IMAGE)
    cells = torch.cat([rows.places.flatten() for rows in (layout.prompts, *layout.answers)])
    assert torch.equal(cells[layout.gather], torch.arange(len(layout.tokens)))


@settings(max_examples=60, deadline=None)
@given(ragged_batches())
def test_rows_of_answers_waste_at_most_half_their_cells(batch: Batch):
    for rows in pack(batch, image_token=IMAGE).answers:
        lengths = rows.mask.sum(1)
        assert rows.mask.shape[1] == int(lengths.max())
        assert bool((2 * lengths >= lengths.max()).all())
