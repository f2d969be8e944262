"""Answers are held to a plain decode, one answer at a time without any cache, by the model's own forward."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from torch import Tensor

from sightline.batch import PromptTokens, make_batch
from sightline.models.forward import Policy
from sightline.models.load import Loaded, choose_trained, load_model
from sightline.models.sampler import Sampled, SamplingParams, answer_seed, decoding_threads, sample
from sightline.world.prompts import task_prompts
from sightline.world.weights import resolve
from tests.tiny import picture, prompt_tokens, tiny_inputs, tiny_policy, tiny_trained

GREEDY = SamplingParams(temperature=0.0, max_tokens=10)
SEEDED = SamplingParams(temperature=0.8, max_tokens=10, seed=5)


@pytest.fixture(params=["full", "lora"])
def talker(request: pytest.FixtureRequest) -> Loaded:
    """A model that ends its answers now and then: its end token points where hidden states often point."""
    loaded = tiny_trained(request.param)
    prompts = [prompt_tokens(str(i), seed=i) for i in range(30)]
    policy = tiny_policy(loaded)
    with torch.no_grad():
        states = [hidden(policy, prompt, []) for prompt in prompts]
        direction = torch.stack(states).mean(0)
        loaded.model.lm_head.weight[loaded.ends[0]] = 4 * direction / direction.norm()
    return loaded


def hidden(policy: Policy, prompt: PromptTokens, answer: list[int]) -> Tensor:
    """Last hidden state of the model's own forward."""
    images = torch.stack([image.load() for image in prompt.images]) if prompt.images else None
    ids = torch.as_tensor([[*prompt.ids, *answer]])
    return policy.model.model(input_ids=ids, pixel_values=images, use_cache=False).last_hidden_state[0, -1]


@torch.no_grad()
def plain_decode(
    policy: Policy, prompt: PromptTokens, number: int, params: SamplingParams, ends: tuple[int, ...]
) -> Sampled:
    uniform = np.random.default_rng(answer_seed(params.seed, prompt.id, number)).random(params.max_tokens)
    tokens: list[int] = []
    chosen: list[float] = []
    for now in range(params.max_tokens):
        logits = policy.model.lm_head(hidden(policy, prompt, tokens)) / (params.temperature or 1.0)
        logits[policy.model.config.image_token_id] = float("-inf")
        logprobs = logits.log_softmax(-1)
        if params.temperature == 0:
            token = int(logprobs.argmax())
        else:
            reached = logprobs.double().exp().cumsum(0)
            token = int((reached <= uniform[now] * reached[-1]).sum())
        tokens.append(token)
        chosen.append(float(logprobs[token]))
        if token in ends:
            return Sampled(token_ids=tuple(tokens), logprobs=tuple(chosen), finish_reason="stop")
    return Sampled(token_ids=tuple(tokens), logprobs=tuple(chosen), finish_reason="length")


def ragged_prompts() -> list[PromptTokens]:
    return [
        prompt_tokens("one", images=(picture(0),), num_text=4, seed=1),
        prompt_tokens("none", num_text=3, seed=2),
        prompt_tokens("two", images=(picture(1), picture(0)), num_text=11, seed=3),
        prompt_tokens("long", num_text=17, seed=4),
    ]


def test_an_answer_ends_at_any_of_the_end_tokens(talker: Loaded):
    policy, params = tiny_policy(talker), SamplingParams(temperature=1.0, max_tokens=24, seed=1)
    free = sample(policy, ragged_prompts(), num=6, params=params, ends=())
    often = Counter(token for answers in free for answer in answers for token in answer.token_ids)
    ends = {token for token, _ in often.most_common(3)}
    seen: set[int] = set()
    found = sample(policy, ragged_prompts(), num=6, params=params, ends=ends)
    for whole, answer in zip(chain(*free), chain(*found), strict=True):
        cut = next((n for n, token in enumerate(whole.token_ids) if token in ends), None)
        assert answer.token_ids == whole.token_ids[: None if cut is None else cut + 1]
        assert answer.finish_reason == ("length" if cut is None else "stop")
        seen |= {answer.token_ids[-1]} & ends
    assert len(seen) > 1


@pytest.mark.parametrize("params", [GREEDY, SEEDED], ids=["greedy", "seeded"])
def test_answers_are_those_of_a_plain_decode(talker: Loaded, params: SamplingParams):
    policy, ends = tiny_policy(talker), talker.ends
    num = 1 if params.temperature == 0 else 6
    found = sample(policy, ragged_prompts(), num=num, params=params, ends=ends)
    for prompt, answers in zip(ragged_prompts(), found, strict=True):
        for number, answer in enumerate(answers):
            wanted = plain_decode(policy, prompt, number, params, ends)
            assert answer.token_ids == wanted.token_ids
            assert answer.finish_reason == wanted.finish_reason
            np.testing.assert_allclose(answer.logprobs, wanted.logprobs, atol=1e-5)
    if params is SEEDED:
        assert {answer.finish_reason for answers in found for answer in answers} == {"stop", "length"}
        assert len({answer.token_ids for answers in found for answer in answers}) > 12


def test_an_answer_depends_neither_on_its_company_nor_on_how_many_are_asked_for(talker: Loaded):
    policy, prompts = tiny_policy(talker), ragged_prompts()
    together = sample(policy, prompts, num=6, params=SEEDED, ends=talker.ends)
    for prompt, wanted in zip(prompts, together, strict=True):
        alone = sample(policy, [prompt], num=2, params=SEEDED, ends=talker.ends)[0]
        assert [answer.token_ids for answer in alone] == [answer.token_ids for answer in wanted[:2]]
    backwards = sample(policy, prompts[::-1], num=3, params=SEEDED, ends=talker.ends)
    for few, many in zip(backwards[::-1], together, strict=True):
        assert [answer.token_ids for answer in few] == [answer.token_ids for answer in many[:3]]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_returned_logprobs_are_those_that_training_sees(talker: Loaded, temperature: float):
    policy, prompts = tiny_policy(talker, temperature=temperature), ragged_prompts()
    params = SamplingParams(temperature=temperature, max_tokens=10, seed=1)
    found = sample(policy, prompts, num=4, params=params, ends=talker.ends)
    batch = make_batch(prompts, [[answer.token_ids for answer in answers] for answers in found])
    scored = policy.score(batch).logprobs.detach()
    rows = [answer for answers in found for answer in answers]
    for row, length, answer in zip(scored, batch.lengths.tolist(), rows, strict=True):
        np.testing.assert_allclose(row[:length].numpy(), answer.logprobs, atol=1e-5)


def test_media_tokens_are_never_sampled_even_when_the_model_wants_them():
    loaded = tiny_trained("full")
    policy, media = tiny_policy(loaded), loaded.model.config.image_token_id
    with torch.no_grad():
        direction = hidden(policy, prompt_tokens("a"), [])
        loaded.model.lm_head.weight[media] = 50 * direction / direction.norm()
        wanted = loaded.model.lm_head(hidden(policy, prompt_tokens("a"), []))
    assert int(wanted.argmax()) == media
    for params in (GREEDY, SEEDED):
        found = sample(policy, [prompt_tokens("a")], num=4, params=params, ends=loaded.ends)
        assert all(media not in answer.token_ids for answer in found[0])


def test_an_answer_ends_at_its_end_token_and_the_others_go_on(talker: Loaded):
    ends = talker.ends
    params = SamplingParams(temperature=1.0, max_tokens=40)
    found = sample(tiny_policy(talker), ragged_prompts(), num=8, params=params, ends=ends)
    lengths = {len(answer.token_ids) for answers in found for answer in answers}
    assert len(lengths) > 5
    for answer in (answer for answers in found for answer in answers):
        assert answer.finish_reason == ("stop" if answer.token_ids[-1] in ends else "length")
        assert not set(ends) & set(answer.token_ids[:-1])
        assert len(answer.token_ids) == len(answer.logprobs) <= 40
        assert len(answer.token_ids) == 40 or answer.finish_reason == "stop"


def test_finished_prompts_leave_the_computation(talker: Loaded, monkeypatch: pytest.MonkeyPatch):
    policy = tiny_policy(talker)
    sizes: list[int] = []
    run = policy.run

    def counted(embeddings: Tensor, positions: Tensor, plan: object) -> Tensor:
        sizes.append(len(embeddings))
        return run(embeddings, positions, plan)  # type: ignore[arg-type]

    monkeypatch.setattr(policy, "run", counted)
    params = SamplingParams(temperature=1.0, max_tokens=40)
    sample(policy, ragged_prompts(), num=8, params=params, ends=talker.ends)
    decoding = sizes[1:]
    assert decoding == sorted(decoding, reverse=True)
    assert decoding[-1] <= decoding[0] // 4


def test_one_seed_gives_one_answer_and_another_seed_another(talker: Loaded):
    policy, ends = tiny_policy(talker), talker.ends
    runs = [
        sample(policy, ragged_prompts(), num=2, params=SamplingParams(seed=seed, max_tokens=8), ends=ends)
        for seed in (1, 1, 2)
    ]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


TRUNCATIONS = {
    "top_k": SamplingParams(temperature=1.0, max_tokens=10, seed=5, top_k=3),
    "top_p": SamplingParams(temperature=1.0, max_tokens=10, seed=5, top_p=0.4),
    "min_p": SamplingParams(temperature=1.0, max_tokens=10, seed=5, min_p=0.6),
}


def kept_tokens(logprobs: Tensor, params: SamplingParams) -> set[int]:
    """Which tokens may be drawn, one after another from the most probable."""
    found: set[int] = set()
    mass = 0.0
    order = logprobs.argsort(descending=True).tolist()
    for place, token in enumerate(order):
        probability = float(logprobs[token].exp())
        if params.top_k and place >= params.top_k:
            break
        if mass >= params.top_p or probability < params.min_p * float(logprobs[order[0]].exp()):
            break
        found.add(token)
        mass += probability
    return found


@pytest.mark.parametrize("params", TRUNCATIONS.values(), ids=TRUNCATIONS)
def test_truncated_answers_stay_among_the_kept_tokens_with_logprobs_of_all(talker: Loaded, params: SamplingParams):
    policy = tiny_policy(talker)
    prompts = ragged_prompts()[:2]
    for prompt, answers in zip(prompts, sample(policy, prompts, num=3, params=params, ends=talker.ends), strict=True):
        for answer in answers:
            for now, (token, logprob) in enumerate(zip(answer.token_ids, answer.logprobs, strict=True)):
                with torch.no_grad():
                    logits = policy.model.lm_head(hidden(policy, prompt, list(answer.token_ids[:now])))
                logits[policy.model.config.image_token_id] = float("-inf")
                logprobs = logits.log_softmax(-1)
                assert token in kept_tokens(logprobs, params)
                assert logprob == pytest.approx(float(logprobs[token]), abs=1e-4)


def test_a_stop_text_ends_an_answer_at_the_token_that_completes_it(talker: Loaded):
    policy, prompts = tiny_policy(talker), ragged_prompts()[:2]  # nothing but a stop text ends these answers
    free = sample(policy, prompts, num=2, params=SEEDED, ends=())

    def text(ids: Sequence[int]) -> str:
        return "".join(chr(65 + token % 26) for token in ids)

    stop = text(max((answer.token_ids for group in free for answer in group), key=len))[2:4]
    assert len(stop) == 2
    stopped = sample(policy, prompts, num=2, params=replace(SEEDED, stop=(stop,)), ends=(), text=text)
    for whole, cut in zip((a for g in free for a in g), (a for g in stopped for a in g), strict=True):
        said = text(whole.token_ids)
        size = said.index(stop) + len(stop) if stop in said else len(said)
        assert cut.token_ids == whole.token_ids[:size]
        assert cut.finish_reason == ("stop" if stop in said else whole.finish_reason)
    with pytest.raises(ValueError, match=r"pass text=inputs\.text"):
        sample(policy, prompts, num=1, params=replace(SEEDED, stop=(stop,)), ends=())


def test_small_steps_are_decoded_by_one_thread_and_torch_gets_its_number_back(monkeypatch: pytest.MonkeyPatch):
    policy = tiny_policy(tiny_trained("full"))
    policy.one_thread_below = 1.5e8
    before = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert decoding_threads(policy, 4) == 1
    assert decoding_threads(policy, 10**9) == 7
    policy.one_thread_below = 0.0
    assert decoding_threads(policy, 4) == 7
    monkeypatch.undo()
    with pytest.raises(ValueError, match="stop texts need"):
        sample(policy, [prompt_tokens("a")], num=1, params=replace(GREEDY, stop=("x",)), ends=(0,))
    sample(policy, [prompt_tokens("a")], num=2, params=GREEDY, ends=(0,))
    assert torch.get_num_threads() == before


@pytest.mark.exactness
def test_in_bfloat16_sampler_and_trainer_differ_by_less_than_rounded_logits_would_make_them():
    loaded = choose_trained(load_model(resolve("world:base"), dtype="bfloat16"), train="full")
    policy, inputs = tiny_policy(loaded), tiny_inputs(loaded)
    prompts = [inputs.prompt(prompt) for prompt in task_prompts("describe", "train", 8)]
    params = SamplingParams(temperature=1.0, max_tokens=64)
    found = sample(policy, prompts, num=4, params=params, ends=inputs.ends)
    batch = make_batch(prompts, [[answer.token_ids for answer in answers] for answers in found])
    with torch.no_grad():
        scored = policy.score(batch).logprobs[batch.mask]
    said = torch.tensor([value for answers in found for answer in answers for value in answer.logprobs])
    assert 0 < float((scored - said).square().mean().sqrt()) < 0.006  # rounded logits: 0.010
