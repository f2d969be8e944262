import pytest
import torch
from jaxtyping import TypeCheckError

from sightline.batch import make_batch
from sightline.objectives.imitation import sft_objective
from sightline.objectives.logprobs import answer_means, answer_totals
from tests.objectives.answers import result
from tests.tiny import prompt_tokens


@pytest.fixture
def batch():
    return make_batch([prompt_tokens("a")], [[(5, 6, 7), (7,)]])


@pytest.fixture
def logprobs() -> torch.Tensor:
    return torch.tensor([[-1.0, -2.0, -3.0], [-4.0, 9.0, 9.0]], dtype=torch.float64, requires_grad=True)


def test_sft_by_hand(batch, logprobs: torch.Tensor):
    found, gradient = result(sft_objective(), batch, logprobs)
    assert found["sft"] == pytest.approx(10 / 4)
    assert found["policy/token_logprob"] == pytest.approx(-10 / 4)
    assert gradient.tolist() == [[-0.25, -0.25, -0.25], [-0.25, 0, 0]]


def test_sft_by_answer_weighs_short_answers_as_long_ones(batch, logprobs: torch.Tensor):
    found, gradient = result(sft_objective(normalise="answer"), batch, logprobs)
    assert found["sft"] == pytest.approx((2 + 4) / 2)
    torch.testing.assert_close(gradient[0], torch.full((3,), -1 / 6, dtype=torch.float64))
    assert gradient[1].tolist() == [-0.5, 0, 0]


@pytest.mark.parametrize("normalise", ["token", "answer"])
def test_only_marked_answers_are_imitated(batch, logprobs: torch.Tensor, normalise: str):
    marked = batch.with_columns(imitate=torch.tensor([False, True]))
    found, gradient = result(sft_objective(normalise=normalise), marked, logprobs)
    assert found["sft"] == pytest.approx(4)
    assert gradient.tolist() == [[0, 0, 0], [-1, 0, 0]]


def test_an_unknown_way_to_normalise_is_refused_by_name():
    with pytest.raises(ValueError, match="not by 'words'"):
        sft_objective(normalise="words")


def test_totals_and_means_of_answers_by_hand(batch, logprobs: torch.Tensor):
    assert answer_totals(logprobs, batch.mask).tolist() == [-6, -4]
    assert answer_means(logprobs, batch.mask).tolist() == [-2, -4]


def test_an_answer_without_scored_tokens_has_a_mean_of_zero(logprobs: torch.Tensor):
    assert answer_means(logprobs, torch.zeros(2, 3, dtype=torch.bool)).tolist() == [0, 0]


def test_shapes_are_checked_where_they_enter(batch, logprobs: torch.Tensor):
    with pytest.raises(TypeCheckError):
        answer_totals(logprobs[:, :2], batch.mask)
    with pytest.raises(TypeCheckError):
        answer_totals(logprobs, batch.mask.float())
