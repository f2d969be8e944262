"""The closed-form counts equal what torch counts in an eager run, and the floor is below every contender."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.operations import Text, Tower, Work, encode, floor, flop, language, ours, peer, twin
from sightline.batch import Batch, make_batch
from sightline.models import attention
from sightline.models.attention import tree_rectangles
from sightline.models.load import Loaded
from tests.tiny import PICTURE_TOKENS, SHAPE, picture, prompt_tokens, random_ids, tiny_policy, tiny_trained

WORK = Work(prompts=2, prompt_tokens=9, answers=3, answer_tokens=6, tower_trained=True)


def tiny_sizes(loaded: Loaded) -> tuple[Text, Tower]:
    text = Text(
        layers=SHAPE.text_layers,
        width=SHAPE.text_width,
        mlp=SHAPE.text_mlp,
        heads=SHAPE.text_heads,
        kv_heads=SHAPE.text_kv_heads,
        head_width=SHAPE.text_width // SHAPE.text_heads,
        vocabulary=loaded.model.config.text_config.vocab_size,
    )
    tower = Tower(
        width=SHAPE.vision_width,
        mlp=SHAPE.vision_mlp,
        gated=False,
        heads=SHAPE.vision_heads,
        patches=PICTURE_TOKENS,
        patch_values=3 * SHAPE.patch_size**2,
        tokens=PICTURE_TOKENS + 1,
        spans=(PICTURE_TOKENS + 1,) * SHAPE.vision_layers,
        features=PICTURE_TOKENS,
        projector=((SHAPE.vision_width, SHAPE.text_width), (SHAPE.text_width, SHAPE.text_width)),
    )
    return text, tower


def batch_of(work: Work) -> Batch:
    words = work.prompt_tokens - PICTURE_TOKENS
    prompts = [prompt_tokens(str(n), images=(picture(n),), num_text=words, seed=n) for n in range(work.prompts)]
    answers = [[random_ids(work.answer_tokens, 7 * n + k) for k in range(work.answers)] for n in range(work.prompts)]
    return make_batch(prompts, answers)


def counted(run: Callable[[], None]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("tower_trained", [True, False])
def test_the_shared_prompt_step_is_what_torch_counts(tower_trained: bool, monkeypatch: pytest.MonkeyPatch):
    # torch does not count the fused kernel on CPU
    monkeypatch.setattr(attention, "WRITTEN_OUT_DTYPES", (torch.float32,))
    monkeypatch.setattr(attention, "_in_float32", lambda *given: False)
    loaded = tiny_trained("full", train_tower=tower_trained, train_projector=tower_trained)
    loaded.model.set_attn_implementation("eager")
    policy, batch = tiny_policy(loaded), batch_of(WORK)
    text, tower = tiny_sizes(loaded)
    rectangles = tree_rectangles(policy.lay_out(batch))
    scored, tokens = int(batch.mask.sum()), 2 * 9 + 6 * 5
    expected = language(text, tokens, rectangles, scored, learn=True) + encode(tower, 2, learn=tower_trained)
    assert counted(lambda: policy.score(batch).logprobs.sum().backward()) == flop(expected)


def test_the_twin_is_what_torch_counts():
    loaded = tiny_trained("full", train_tower=True, train_projector=True)
    loaded.model.set_attn_implementation("eager")
    policy, batch = tiny_policy(loaded), batch_of(WORK)
    text, tower = tiny_sizes(loaded)

    def step() -> None:
        with torch.no_grad():
            policy.score_plain(batch, kernel="eager")
        policy.score_plain(batch, kernel="eager").logprobs.sum().backward()

    assert counted(step) == flop(twin(text, tower, WORK))


@pytest.mark.parametrize("keep", [False, True])
def test_the_floor_is_below_ours_and_ours_below_the_others(keep: bool):
    loaded = tiny_trained("full")
    text, tower = tiny_sizes(loaded)
    work = replace(WORK, tower_trained=False, keep_features=keep, keep_reference=keep)
    rectangles = tree_rectangles(tiny_policy(loaded).lay_out(batch_of(work)))
    least, found = floor(text, tower, work), flop(ours(text, tower, work, rectangles))
    assert least < found < flop(twin(text, tower, work)) < flop(peer(text, tower, work, everywhere=False))


def test_adapters_save_the_gradients_of_weights():
    text, _ = tiny_sizes(tiny_trained("full"))
    whole = flop(language(text, 100, (), 10, learn=True))
    assert whole / 2 < flop(language(replace(text, adapter_rank=1), 100, (), 10, learn=True)) < whole
