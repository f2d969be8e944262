from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.data.stream import Stream

shapes = {
    "num_items": st.integers(1, 23),
    "batch_size": st.integers(1, 9),
    "epochs": st.sampled_from([1, 2, 3, 0.3, 1.5, 2.25]),
    "seed": st.integers(0, 2**64),
}


def batches(num_items: int, **settings: object) -> list[list[int]]:
    return list(Stream(num_items, **settings))


@settings(max_examples=60, deadline=None)
@given(**shapes)
def test_every_epoch_reads_every_row_once(num_items: int, batch_size: int, epochs: float, seed: int) -> None:
    read = [row for batch in batches(num_items, seed=seed, batch_size=batch_size, epochs=epochs) for row in batch]
    assert abs(len(read) - epochs * num_items) < 1
    for first in range(0, len(read), num_items):
        epoch = read[first : first + num_items]
        assert len(set(epoch)) == len(epoch)
        assert set(epoch) <= set(range(num_items))


@settings(max_examples=60, deadline=None)
@given(**shapes)
def test_ranks_share_the_same_global_batches(num_items: int, batch_size: int, epochs: float, seed: int) -> None:
    options = {"seed": seed, "batch_size": batch_size, "epochs": epochs}
    alone = batches(num_items, **options)
    for world_size in (1, 2, 3):
        ranks = [batches(num_items, **options, rank=rank, world_size=world_size) for rank in range(world_size)]
        together = [[row for part in slices for row in part] for slices in zip(*ranks, strict=True)]
        assert together == alone
        for slices in zip(*ranks, strict=True):
            assert max(map(len, slices)) - min(map(len, slices)) <= 1


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("world_size", [1, 2])
def test_resume_at_every_position_equals_the_uninterrupted_stream(drop_last: bool, world_size: int) -> None:
    options = {"seed": 5, "batch_size": 4, "epochs": 2.5, "drop_last": drop_last, "world_size": world_size}
    whole = batches(11, **options)
    for position in range(len(whole) + 1):
        before = Stream(11, **options)
        first = list(islice(before, position))
        after = Stream(11, **options)
        after.restore(before.state())
        assert first + list(after) == whole


def test_resume_may_change_the_number_of_processes() -> None:
    whole = batches(11, seed=5, batch_size=4, epochs=2)
    before = Stream(11, seed=5, batch_size=4, epochs=2, rank=1, world_size=2)
    next(before)
    after = Stream(11, seed=5, batch_size=4, epochs=2)
    after.restore(before.state())
    assert list(after) == whole[1:]


@pytest.mark.parametrize(("name", "other"), [("num_items", 12), ("seed", 6), ("batch_size", 3), ("drop_last", True)])
def test_a_state_of_other_data_or_settings_is_refused(name: str, other: int) -> None:
    options = {"num_items": 11, "seed": 5, "batch_size": 4, "drop_last": False}
    state = Stream(options.pop("num_items"), **options).state()
    changed = {"num_items": 11, **options, name: other}
    with pytest.raises(ValueError, match=f"the saved stream has {name} .* resume with the data"):
        Stream(changed.pop("num_items"), **changed).restore(state)


def test_a_state_is_plain_json_numbers() -> None:
    stream = Stream(5, seed=1, batch_size=2)
    next(stream)
    assert {type(value) for value in stream.state().values()} == {int}


def test_a_batch_larger_than_the_data_is_the_whole_data() -> None:
    assert [sorted(batch) for batch in batches(3, seed=0, batch_size=8, epochs=2)] == [[0, 1, 2], [0, 1, 2]]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    first, second = batches(50, seed=0, batch_size=50, epochs=2)
    (other,) = batches(50, seed=1, batch_size=50, epochs=1)
    assert first != second
    assert first != other


def test_the_order_is_pinned() -> None:
    assert batches(10, seed=3, batch_size=4, epochs=1) == [[0, 4, 9, 7], [1, 5, 6, 3], [8, 2]]


def test_a_stream_without_end_goes_on() -> None:
    stream = Stream(3, seed=0, batch_size=2, epochs=None)
    assert stream.num_batches is None
    assert [len(batch) for batch in islice(stream, 6)] == [2, 1, 2, 1, 2, 1]


def test_drop_last_leaves_short_batches_out() -> None:
    assert [len(batch) for batch in batches(7, seed=0, batch_size=3, epochs=2, drop_last=True)] == [
        3,
        3,
        3,
        3,
    ]


@settings(max_examples=60, deadline=None)
@given(**shapes, drop_last=st.booleans())
def test_num_batches_is_the_number_of_batches(
    num_items: int, batch_size: int, epochs: float, seed: int, drop_last: bool
) -> None:
    drop_last = drop_last and batch_size <= num_items
    stream = Stream(num_items, seed=seed, batch_size=batch_size, epochs=epochs, drop_last=drop_last)
    assert stream.num_batches == len(list(stream))


def test_an_ended_stream_stays_ended() -> None:
    stream = Stream(3, seed=0, batch_size=2, epochs=1)
    list(stream)
    state = stream.state()
    assert list(stream) == []
    assert stream.state() == state


@pytest.mark.parametrize(
    ("num_items", "wrong", "sentence"),
    [
        (0, {}, "0 rows to read; check data.files"),
        (3, {"batch_size": 0}, "a batch of 0 rows"),
        (3, {"seed": -1}, "the seed is -1"),
        (3, {"epochs": 0}, "0 epochs read nothing"),
        (3, {"epochs": float("nan")}, "nan epochs read nothing"),
        (3, {"batch_size": 4, "drop_last": True}, "3 rows fill no batch of 4"),
    ],
)
def test_what_cannot_be_read_is_refused(num_items: int, wrong: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Stream(num_items, **{"seed": 0, "batch_size": 2, **wrong})
