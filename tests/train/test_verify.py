import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sightline.batch import make_batch
from sightline.models import forward
from sightline.models.attention import TreePlan, Windows
from sightline.models.layout import Layout
from sightline.models.load import choose_trained, load_model
from sightline.train.engine import TrainingStopped
from sightline.train.verify import check_first_batch, first_answers, save_batch
from tests.tiny import prompt_tokens, ragged_batch, random_ids, tiny_model, tiny_policy, tiny_processor, tiny_trained


@pytest.mark.parametrize("train", ["full", "lora"])
def test_an_honest_forward_passes_in_float32(train: str):
    said = check_first_batch(tiny_policy(tiny_trained(train)), ragged_batch(num_answers=3))
    assert "equals the plain one" in said


@pytest.mark.parametrize("train", ["full", "lora"])
@pytest.mark.parametrize("seed", range(4))
def test_an_honest_forward_passes_in_bfloat16(train: str, seed: int, tmp_path: Path):
    tiny_model(seed=seed).save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    loaded = choose_trained(load_model(str(tmp_path), dtype="bfloat16"), train=train, rank=4)
    check_first_batch(tiny_policy(loaded), ragged_batch(num_answers=2, seed=seed))


def test_one_answer_is_enough():
    batch = make_batch([prompt_tokens("a")], [[random_ids(3, 0)]])
    check_first_batch(tiny_policy(tiny_trained("full")), batch)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_wrong_layout_stops_the_run_with_a_sentence(dtype: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    tiny_model().save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    loaded = choose_trained(load_model(str(tmp_path), dtype=dtype), train="full")

    def shifted(layout: Layout, windows: Windows) -> TreePlan:
        layout.positions.add_((layout.positions > 5).long())
        return TreePlan(layout=layout, windows=windows)

    monkeypatch.setattr(forward, "TreePlan", shifted)
    with pytest.raises(TrainingStopped, match=r"differs from the plain one by .* per token on prompt 'one'"):
        check_first_batch(tiny_policy(loaded), ragged_batch())


def test_not_a_number_stops_the_run_too():
    loaded = tiny_trained("full")
    with torch.no_grad():
        loaded.model.lm_head.weight[5, 0] = float("nan")
    with pytest.raises(TrainingStopped, match="differs from the plain one by nan"):
        check_first_batch(tiny_policy(loaded), ragged_batch())


def test_the_first_batch_is_one_group_with_at_most_two_answers():
    first = first_answers(ragged_batch(num_answers=3))
    assert [prompt.id for prompt in first.prompts] == ["one"]
    assert first.num_answers == 2
    assert first.tokens.shape[1] == int(first.lengths.max())


def test_a_kept_batch_says_why_and_what(tmp_path: Path):
    batch = ragged_batch()
    path = save_batch(tmp_path / "bad", batch, 12, "loss nan")
    said = json.loads(Path(path).read_text())
    assert (said["step"], said["why"]) == (12, "loss nan")
    assert [prompt["images"] for prompt in said["prompts"]] == [["picture-0"], ["picture-1", "picture-0"], []]
    kept = load_file(tmp_path / "bad" / "step-000012.safetensors")
    assert torch.equal(kept["tokens"], batch.tokens)
    assert torch.equal(kept["pairs"], batch.pairs)
