from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sightline.batch import Batch, ImageInput, make_batch
from sightline.models import reference
from sightline.models.load import Loaded, choose_trained
from sightline.models.reference import KeptLogprobs, adapter_off, frozen_copy
from tests.tiny import (
    picture,
    prompt_tokens,
    ragged_batch,
    random_ids,
    tiny_loaded,
    tiny_policy,
    tiny_trained,
)

KINDS = ("adapter_off", "copy", "cached")


@pytest.fixture
def batch() -> Batch:
    return ragged_batch(num_answers=2)


def fresh(train: str = "lora") -> Loaded:
    """As a run begins: adapters that change nothing yet."""
    return choose_trained(tiny_loaded(), train=train, rank=4, alpha=8)


def made(kind: str, loaded: Loaded, batch: Batch, folder: Path) -> reference.Reference:
    policy = tiny_policy(loaded)
    if kind == "adapter_off":
        return adapter_off(policy, loaded)
    if kind == "copy":
        return frozen_copy(policy, loaded)
    kept = KeptLogprobs(folder, policy, loaded)
    kept.keep([batch], token_budget=1000)
    return kept


def change_weights(loaded: Loaded) -> None:
    with torch.no_grad():
        for parameter in loaded.trained().values():
            parameter.add_(torch.randn(parameter.shape) * 0.1)


def scored(loaded: Loaded, batch: Batch) -> Tensor:
    with torch.no_grad():
        return tiny_policy(loaded).score(batch).logprobs


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_is_the_policy_before_the_first_update_and_stays_it(kind: str, batch: Batch, tmp_path: Path):
    loaded = fresh()
    before = scored(loaded, batch)
    score = made(kind, loaded, batch, tmp_path)
    torch.testing.assert_close(score(batch), before, atol=1e-6, rtol=0)
    change_weights(loaded)
    assert float((scored(loaded, batch) - before).abs().max()) > 0.1
    torch.testing.assert_close(score(batch), before, atol=1e-6, rtol=0)
    assert not score(batch).requires_grad


@pytest.mark.parametrize("kind", ["copy", "cached"])
def test_a_model_that_is_trained_itself_has_a_reference_too(kind: str, batch: Batch, tmp_path: Path):
    loaded = fresh("full")
    before = scored(loaded, batch)
    score = made(kind, loaded, batch, tmp_path)
    change_weights(loaded)
    torch.testing.assert_close(score(batch), before, atol=1e-6, rtol=0)


def test_switching_the_adapter_off_leaves_it_on_and_trained(batch: Batch):
    loaded = tiny_trained("lora")
    before, names = scored(loaded, batch), set(loaded.trained())
    adapter_off(tiny_policy(loaded), loaded)(batch)
    assert torch.equal(scored(loaded, batch), before)
    assert set(loaded.trained()) == names


@pytest.mark.parametrize("options", [{"train_projector": True}, {"train_tower": True}])
def test_adapter_off_is_refused_when_something_beside_the_adapter_is_trained(options: dict[str, bool]):
    loaded = tiny_trained("lora", **options)
    with pytest.raises(ValueError, match=r"adapter_off is wrong here because .* is trained too; use cached or copy"):
        adapter_off(tiny_policy(loaded), loaded)


def test_adapter_off_is_refused_without_an_adapter():
    loaded = tiny_trained("full")
    with pytest.raises(ValueError, match="because there is no adapter; use cached or copy"):
        adapter_off(tiny_policy(loaded), loaded)


def test_kept_logprobs_serve_the_next_process_without_computing_again(batch: Batch, tmp_path: Path):
    first = KeptLogprobs(tmp_path, tiny_policy(fresh()), fresh())
    assert first.keep([batch], token_budget=1000) == batch.num_answers
    wanted = first(batch)
    loaded = fresh()
    policy = tiny_policy(loaded)
    again = KeptLogprobs(tmp_path, policy, loaded)
    assert again.keep([batch], token_budget=1000) == 0
    assert policy.vision.num_encoded == 0
    change_weights(loaded)
    assert torch.equal(again(batch), wanted)


def test_kept_logprobs_in_many_segments_are_all_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reference, "SEGMENT", 2)
    whole = ragged_batch(num_answers=4)
    loaded = fresh()
    kept = KeptLogprobs(tmp_path, tiny_policy(loaded), loaded)
    assert kept.keep((whole.select([i]) for i in range(3)), token_budget=1000) == 12
    assert len(list(tmp_path.glob("segment-*.safetensors"))) == 3
    torch.testing.assert_close(
        KeptLogprobs(tmp_path, tiny_policy(loaded), loaded)(whole), scored(loaded, whole), atol=2e-6, rtol=0
    )


def test_kept_logprobs_do_not_depend_on_the_portions_they_were_made_in(tmp_path: Path):
    loaded, batch = fresh(), ragged_batch(num_answers=4)
    kept = []
    for token_budget in (1, 30, 1000):
        made_so = KeptLogprobs(tmp_path / str(token_budget), tiny_policy(loaded), loaded)
        made_so.keep([batch], token_budget=token_budget)
        kept.append(made_so(batch))
    torch.testing.assert_close(kept[0], kept[2], atol=1e-5, rtol=0)
    torch.testing.assert_close(kept[1], kept[2], atol=1e-5, rtol=0)


def test_an_answer_that_two_groups_share_is_kept_once(tmp_path: Path):
    loaded, answer = fresh(), random_ids(3, 0)
    kept = KeptLogprobs(tmp_path, tiny_policy(loaded), loaded)
    prompts = [prompt_tokens("a"), prompt_tokens("b")]  # the same tokens under two names
    assert kept.keep([make_batch(prompts, [[answer], [answer]])], token_budget=1000) == 1


@pytest.mark.parametrize("change", ["picture", "prompt", "answer", "weights", "dtype"])
def test_kept_logprobs_are_refused_for_anything_else(change: str, tmp_path: Path):
    def one(*, image: int = 0, text: int = 0, answer: int = 0) -> Batch:
        prompt = prompt_tokens("a", images=(picture(image),), seed=text)
        return make_batch([prompt], [[random_ids(3, answer)]])

    loaded = fresh()
    KeptLogprobs(tmp_path, tiny_policy(loaded), loaded).keep([one()], token_budget=1000)
    other = one(image=int(change == "picture"), text=int(change == "prompt"), answer=int(change == "answer"))
    if change == "weights":
        change_weights(loaded)
    if change == "dtype":
        loaded = Loaded(
            model=loaded.model,
            processor=loaded.processor,
            family=loaded.family,
            dtype="bfloat16",
            adapter=loaded.adapter,
        )
    kept = KeptLogprobs(tmp_path, tiny_policy(loaded), loaded)
    with pytest.raises(ValueError, match=r"log-probs for an answer are missing in .*; the data changed"):
        kept(other)


def test_a_kill_while_keeping_leaves_only_whole_segments(batch: Batch, tmp_path: Path):
    loaded = fresh()
    (tmp_path / "segment-0123.partial").write_bytes(b"torn")
    kept = KeptLogprobs(tmp_path, tiny_policy(loaded), loaded)
    assert kept.keep([batch], token_budget=1000) == batch.num_answers


@pytest.mark.parametrize("trained", [False, True])
def test_a_frozen_towers_features_serve_policy_and_copy(trained: bool):
    loaded, batch = tiny_trained("full", train_tower=trained, train_projector=trained), ragged_batch()
    policy = tiny_policy(loaded)
    score = frozen_copy(policy, loaded)
    wanted = policy.score(batch).logprobs.detach()
    loads: list[str] = []
    torch.testing.assert_close(score(noting_loads(batch, loads)), wanted, atol=1e-6, rtol=0)
    assert bool(loads) == trained


def test_a_copy_scores_at_the_policys_temperature():
    loaded, batch = tiny_trained("full"), ragged_batch()
    policy = tiny_policy(loaded, temperature=0.7)
    torch.testing.assert_close(frozen_copy(policy, loaded)(batch), policy.score(batch).logprobs.detach())


def noting_loads(batch: Batch, loads: list[str]) -> Batch:
    """The batch with pictures that note when somebody opens them."""

    def noted(image: ImageInput) -> ImageInput:
        return replace(image, load=lambda: loads.append(image.key) or image.load())

    prompts = [replace(prompt, images=tuple(map(noted, prompt.images))) for prompt in batch.prompts]
    return replace(batch, prompts=tuple(prompts))
