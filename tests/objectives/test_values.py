import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from sightline.objectives.values import (
    explained_variance,
    explained_variance_of,
    gae,
    value_loss,
    value_moments,
)

NAN = float("nan")


def rows(*numbers: list[float]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_gae_by_hand():
    # From the right: 1 - 0.6; 0.9 * 0.6 - 0.4 + 0.72 * 0.4; 0.9 * 0.4 - 0.5 + 0.72 * 0.428.
    mask = torch.ones(1, 3, dtype=torch.bool)
    advantages, returns = gae(rows([0, 0, 1]), rows([0.5, 0.4, 0.6]), mask, discount=0.9, lam=0.8)
    torch.testing.assert_close(advantages, rows([0.16816, 0.428, 0.4]))
    torch.testing.assert_close(returns, rows([0.66816, 0.828, 1.0]))


def test_gae_with_a_reward_on_each_sentence_by_hand():
    # Sentences end at tokens 1 and 3: 2 - 1; 0.5 * 1 - 3 + 0.25 * 1; 4 + 0.5 * 3 - 2 + 0.25 * -2.25;
    # 0.5 * 2 - 1 + 0.25 * 2.9375.
    mask = torch.ones(1, 4, dtype=torch.bool)
    advantages, _ = gae(rows([0, 4, 0, 2]), rows([1, 2, 3, 1]), mask, discount=0.5, lam=0.5)
    torch.testing.assert_close(advantages, rows([0.734375, 2.9375, -2.25, 1.0]))


def test_padding_and_unscored_tokens_are_no_steps():
    rewards, values = rows([0, 9, 1, 7, 9], [5, 9, 9, 9, 9]), rows([0.5, NAN, 0.4, 0.6, NAN], [2, NAN, NAN, NAN, NAN])
    mask = torch.tensor([[True, False, True, True, False], [True, False, False, False, False]])
    advantages, returns = gae(rewards, values, mask, discount=0.9, lam=0.8)
    dense = gae(rows([0, 1, 7]), rows([0.5, 0.4, 0.6]), torch.ones(1, 3, dtype=torch.bool), discount=0.9, lam=0.8)
    for found, wanted in zip((advantages, returns), dense, strict=True):
        assert found[0, mask[0]].tolist() == wanted[0].tolist()
        assert found[0, ~mask[0]].tolist() == [0, 0]
    assert advantages[1].tolist() == [3, 0, 0, 0, 0]
    assert returns[1].tolist() == [5, 0, 0, 0, 0]


ragged = st.integers(1, 6).flatmap(
    lambda length: st.tuples(
        *(st.lists(st.floats(-3, 3), min_size=length, max_size=length) for _ in range(2)),
        st.lists(st.booleans(), min_size=length, max_size=length),
    )
)


@settings(max_examples=50, deadline=None)
@given(case=ragged, discount=st.floats(0, 1), lam=st.floats(0, 1))
def test_gae_is_its_definition(case: tuple[list[float], list[float], list[bool]], discount: float, lam: float):
    rewards, values, scored = case
    steps = [t for t, live in enumerate(scored) if live]
    known = [values[t] for t in steps] + [0.0]
    surprise = [rewards[t] + discount * known[i + 1] - known[i] for i, t in enumerate(steps)]
    advantages, returns = gae(rows(rewards), rows(values), torch.tensor([scored]), discount=discount, lam=lam)
    for i, t in enumerate(steps):
        wanted = sum((discount * lam) ** k * one for k, one in enumerate(surprise[i:]))
        assert float(advantages[0, t]) == pytest.approx(wanted, abs=1e-9)
        assert float(returns[0, t]) == pytest.approx(wanted + values[t], abs=1e-9)


def test_lam_one_gives_the_whole_return_whatever_the_critic_says():
    mask = torch.ones(1, 3, dtype=torch.bool)
    for values in (rows([0, 0, 0]), rows([5, -3, 2])):
        _, returns = gae(rows([1, 2, 4]), values, mask, discount=0.5, lam=1.0)
        torch.testing.assert_close(returns, rows([3, 4, 4]))


def test_lam_zero_gives_one_step():
    mask = torch.ones(1, 2, dtype=torch.bool)
    advantages, _ = gae(rows([1, 2]), rows([3, 5]), mask, discount=1.0, lam=0.0)
    assert advantages.tolist() == [[1 + 5 - 3, 2 - 5]]


def test_advantages_carry_no_gradient_and_no_tokens_are_no_trouble():
    values = rows([1, 2]).requires_grad_()
    advantages, returns = gae(rows([1, 2]), values, torch.ones(1, 2, dtype=torch.bool), discount=1.0, lam=0.5)
    assert not advantages.requires_grad
    assert not returns.requires_grad
    empty = torch.zeros(2, 0)
    assert gae(empty, empty, empty.bool(), discount=1.0, lam=1.0)[0].shape == (2, 0)


def test_value_loss_by_hand():
    values = torch.tensor([1.0, 1.0, 0.6, 0.3], dtype=torch.float64, requires_grad=True)
    old = torch.full((4,), 0.5, dtype=torch.float64)
    returns = torch.tensor([2.0, 0.6, 2.0, 0.0], dtype=torch.float64)
    plain = value_loss(values, returns)
    assert plain.tolist() == pytest.approx([0.5, 0.08, 0.98, 0.045])
    # Held within 0.2 of 0.5: 0.7, 0.7, 0.6, 0.3. The first has gone far enough, the second must come back.
    clipped = value_loss(values, returns, old_values=old, clip=0.2)
    assert clipped.tolist() == pytest.approx([0.845, 0.08, 0.98, 0.045])
    (gradient,) = torch.autograd.grad(clipped.sum(), values)
    assert gradient.tolist() == pytest.approx([0, 0.4, -1.4, 0.3])


def test_explained_variance_by_hand():
    returns, mask = rows([1, 2, 3, NAN]), torch.tensor([[True, True, True, False]])
    assert explained_variance(returns, returns, mask) == 1
    assert explained_variance(rows([5, 5, 5, 0]), returns, mask) == pytest.approx(0)
    # Errors 0, 1, 0 vary by 2/9, returns by 2/3.
    assert explained_variance(rows([1, 1, 3, 0]), returns, mask) == pytest.approx(1 - 1 / 3)
    assert explained_variance(rows([3, 2, 1, 0]), returns, mask) == pytest.approx(-3)
    assert explained_variance(rows([3, 2, 1, 0]), rows([2, 2, 2, 0]), mask) == 0


def test_moments_of_parts_add_up_to_those_of_the_step():
    values, returns = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    mask = torch.rand(6, 4) > 0.3
    parts = [value_moments(values[part], returns[part], mask[part]) for part in (slice(0, 1), slice(1, 6))]
    means = {name: sum(part[name] for part in parts) / float(mask.sum()) for name in parts[0]}
    residual = (returns - values)[mask]
    wanted = 1 - float(residual.var(correction=0) / returns[mask].var(correction=0))
    assert explained_variance_of(means) == pytest.approx(wanted)


def test_wrong_shapes_are_refused_where_they_enter():
    with pytest.raises(TypeCheckError):
        gae(rows([1, 2]), rows([1]), torch.ones(1, 2, dtype=torch.bool), discount=1.0, lam=1.0)
