import math

import pytest
import torch
from torch import nn

from sightline.train.optim import make_optimiser, make_schedule


def rates(kind: str, num_steps: int, warmup_fraction: float = 0.0) -> list[float]:
    rate = make_schedule(kind, learning_rate=2.0, num_steps=num_steps, warmup_fraction=warmup_fraction)
    return [rate(step) for step in range(num_steps)]


def test_a_constant_rate_is_constant_after_its_warm_up():
    assert rates("constant", 6, 0.5) == pytest.approx([2 / 3, 4 / 3, 2, 2, 2, 2])


def test_a_linear_rate_falls_to_its_last_step_by_hand():
    assert rates("linear", 4) == pytest.approx([2.0, 1.5, 1.0, 0.5])
    assert rates("linear", 4, 0.25) == pytest.approx([2.0, 2.0, 4 / 3, 2 / 3])


def test_a_cosine_rate_falls_by_hand():
    assert rates("cosine", 4) == pytest.approx([2.0, 1 + math.sqrt(0.5), 1.0, 1 - math.sqrt(0.5)])


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 100])
@pytest.mark.parametrize("warmup_fraction", [0.0, 0.05, 1.0])
def test_every_update_has_a_rate_above_zero_and_at_most_the_peak(kind: str, num_steps: int, warmup_fraction: float):
    found = rates(kind, num_steps, warmup_fraction)
    assert all(0 < rate <= 2 for rate in found)
    assert max(found) == pytest.approx(2)
    after = make_schedule(kind, learning_rate=2.0, num_steps=num_steps)(num_steps)
    assert after == pytest.approx(0, abs=1e-12)


def test_an_unknown_schedule_is_refused_by_name():
    with pytest.raises(ValueError, match="no schedule 'cosin'; the schedules are constant, linear, cosine"):
        make_schedule("cosin", learning_rate=1.0, num_steps=1)


def test_weight_decay_falls_on_matrices_only():
    layer = nn.Linear(3, 2)
    matrix, vector = layer.weight.detach().clone(), layer.bias.detach().clone()
    optimiser = make_optimiser(layer.parameters(), learning_rate=0.1, weight_decay=0.5)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    torch.testing.assert_close(layer.weight, matrix * (1 - 0.1 * 0.5))
    assert torch.equal(layer.bias, vector)


def test_the_options_reach_adamw():
    layer = nn.Linear(3, 2)
    optimiser = make_optimiser(layer.parameters(), learning_rate=0.1, betas=(0.5, 0.6), epsilon=1e-3)
    assert {(g["lr"], g["betas"], g["eps"]) for g in optimiser.param_groups} == {(0.1, (0.5, 0.6), 1e-3)}


def test_frozen_parameters_are_left_out_and_nothing_trained_is_refused():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    optimiser = make_optimiser(layer.parameters(), learning_rate=0.1)
    assert [p.shape for g in optimiser.param_groups for p in g["params"]] == [(2, 3)]
    layer.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing is trained"):
        make_optimiser(layer.parameters(), learning_rate=0.1)
