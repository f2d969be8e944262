"""The critic: prompt once and plain agree in values and in every gradient, shared or separate."""

import pytest
import torch
from torch import Tensor, nn

from sightline.batch import Batch, PromptTokens, make_batch
from sightline.models.families import LLAVA
from sightline.models.forward import Policy
from sightline.models.heads import EVIDENCE, Critic, RatingHead, ValueHead, make_critic
from tests.tiny import picture, prompt_tokens, tiny_trained

WANT = frozenset({"logprobs", "values"})


def batch() -> Batch:
    prompts: list[PromptTokens] = [
        prompt_tokens("one", images=(picture(0),), num_text=4, seed=1),
        prompt_tokens("none", num_text=3, seed=2),
        prompt_tokens("two", images=(picture(1), picture(0)), num_text=7, seed=3),
    ]
    return make_batch(prompts, [[[5, 6, 7], [8]], [[9, 10]], [[5, 5, 5, 5], [6, 7], [8, 9, 10]]])


def critical(separate: bool, train: str) -> tuple[Policy, Critic, dict[str, nn.Parameter]]:
    loaded = tiny_trained(train)
    critic = make_critic(loaded.model, LLAVA, separate=separate)
    with torch.no_grad():
        critic.head.weight.copy_(torch.randn(critic.head.weight.shape, generator=torch.Generator().manual_seed(1)))
    return Policy(loaded.model, LLAVA, critic=critic), critic, loaded.trained()


def gradients(values: Tensor, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    weights = torch.linspace(-1, 1, values.numel()).view(values.shape)
    found = torch.autograd.grad((values * weights).sum(), list(parameters.values()), allow_unused=True)
    return {name: g for name, g in zip(parameters, found, strict=True) if g is not None}


@pytest.mark.parametrize("train", ["full", "lora"])
@pytest.mark.parametrize("separate", [False, True])
def test_values_and_their_gradients_are_those_of_the_plain_forward(separate: bool, train: str):
    policy, critic, trained = critical(separate, train)
    fast, plain = policy.score(batch(), want=WANT).values, policy.score_plain(batch(), want=WANT).values
    assert fast is not None
    assert plain is not None
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=0)
    parameters = critic.trained() | trained
    mine, theirs = gradients(fast, parameters), gradients(plain, parameters)
    assert mine.keys() == theirs.keys()
    whole = torch.stack([g.norm() for g in theirs.values()]).norm()
    for name, gradient in theirs.items():
        scale = max(float(gradient.norm()), 1e-3 * float(whole))
        assert float((mine[name] - gradient).norm()) <= 1e-5 * scale, name


def test_values_are_float32_also_where_the_run_computes_in_bfloat16():
    head = ValueHead(64)
    torch.nn.init.normal_(head.weight)
    states = torch.randn(10, 64).bfloat16()
    wanted = states.double() @ head.weight.double()
    with torch.autocast("cpu", torch.bfloat16):
        found = head(states)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=1e-5)


def test_a_separate_critic_shares_the_eyes_and_leaves_the_policy_alone():
    policy, critic, trained = critical(separate=True, train="full")
    assert critic.model is not None
    assert LLAVA.tower(critic.model) is LLAVA.tower(policy.model)
    assert LLAVA.projector(critic.model) is LLAVA.projector(policy.model)
    values = policy.score(batch(), want=WANT).values
    assert values is not None
    assert not gradients(values, trained)
    assert any(name.startswith("critic.model.") for name in gradients(values, critic.trained()))


def test_a_trained_tower_that_both_share_is_the_policys():
    loaded = tiny_trained("lora", train_tower=True, train_projector=True)
    critic = make_critic(loaded.model, LLAVA, separate=True)
    assert not {id(p) for p in critic.trained().values()} & {id(p) for p in loaded.trained().values()}


def test_where_adapters_are_trained_the_critic_has_adapters_of_its_own_on_the_same_weights():
    policy, critic, trained = critical(separate=True, train="lora")
    assert critic.model is not None
    mine = dict(critic.model.named_parameters())
    for name, parameter in policy.model.named_parameters():
        assert (mine[name] is parameter) is (not parameter.requires_grad), name
    names = [name for name in critic.trained() if name.startswith("critic.model.")]
    assert names
    assert all("lora" in name for name in names)
    values = policy.score(batch(), want=WANT).values
    assert values is not None
    assert not gradients(values, trained)


def test_a_new_head_says_nothing_and_a_token_that_is_not_scored_has_no_value():
    loaded = tiny_trained("full")
    policy = Policy(loaded.model, LLAVA, critic=make_critic(loaded.model, LLAVA, separate=False))
    values = policy.score(batch(), want=WANT).values
    assert values is not None
    assert not values.any()
    assert policy.score(batch()).values is None


RATED = frozenset({"ratings"})


@pytest.mark.parametrize("train", ["full", "lora"])
@pytest.mark.parametrize("attributes", [0, 2])
def test_ratings_and_their_gradients_are_those_of_the_plain_forward(attributes: int, train: str):
    loaded = tiny_trained(train)
    width = loaded.model.lm_head.weight.shape[1]
    torch.manual_seed(3)
    head = RatingHead(width, num_attributes=attributes, with_length=attributes > 0, with_likelihood=attributes > 0)
    policy = Policy(loaded.model, LLAVA, rating=head)
    fast, plain = policy.score(batch(), want=RATED), policy.score_plain(batch(), want=RATED)
    assert fast.ratings is not None
    assert plain.ratings is not None
    assert fast.ratings.shape == (batch().num_answers, head.size)
    assert not fast.logprobs.any()
    torch.testing.assert_close(fast.ratings, plain.ratings, atol=1e-5, rtol=0)
    parameters = head.trained() | loaded.trained()
    mine, theirs = gradients(fast.ratings, parameters), gradients(plain.ratings, parameters)
    assert mine.keys() == theirs.keys()
    whole = torch.stack([g.norm() for g in theirs.values()]).norm()
    for name, gradient in theirs.items():
        scale = max(float(gradient.norm()), 1e-3 * float(whole))
        assert float((mine[name] - gradient).norm()) <= 1e-5 * scale, name


def test_the_overall_rating_is_the_gated_mean_of_the_attributes():
    head = RatingHead(4, num_attributes=3)
    states = torch.randn(5, 3, 4)
    evidence = torch.randn(5, EVIDENCE)
    found = head(states, evidence)
    torch.testing.assert_close(found[:, 0], found[:, 1:].mean(1))  # a new gate weighs all alike
    assert head.gate is not None
    torch.nn.init.normal_(head.gate.weight)
    weights = head.gate(states[:, 0]).softmax(-1)
    torch.testing.assert_close(head(states, evidence)[:, 0], (weights * found[:, 1:]).sum(1))
