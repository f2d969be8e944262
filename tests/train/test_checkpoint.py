import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sightline.models.load import Loaded
from sightline.train.checkpoint import WEIGHTS, learned, read_state, read_weights, write_state
from sightline.train.engine import Engine
from tests.tiny import tiny_trained
from tests.train.engines import preference_batch, tiny_engine


@pytest.fixture(params=["lora", "full"])
def train(request: pytest.FixtureRequest) -> str:
    return request.param


def updated(engine: Engine, *steps: int) -> Engine:
    for seed in steps:
        engine.update(preference_batch(seed=seed))
    return engine


def tensors(engine: Engine, loaded: Loaded) -> dict[str, torch.Tensor]:
    found = {f"{name}": parameter.detach().clone() for name, parameter in loaded.trained().items()}
    for name, parameter in loaded.trained().items():
        found |= {f"{name}/{key}": value.clone() for key, value in engine.optimiser.state[parameter].items()}
    return found


def save(folder: Path, engine: Engine, loaded: Loaded, facts: dict[str, Any], feed: dict[str, torch.Tensor]) -> None:
    write_state(folder, engine, learned(engine, loaded.trained()), facts, feed)


def test_going_on_from_a_checkpoint_is_bit_for_bit_going_on(train: str, tmp_path: Path):
    loaded = tiny_trained(train)
    engine = updated(tiny_engine(loaded), 0, 1)
    engine.bad_steps = 1
    save(tmp_path, engine, loaded, {"feed": {"position": 7}}, {"columns.x": torch.ones(2)})
    next_number = torch.rand(1)
    metrics = updated(engine, 2).update(preference_batch(seed=3))

    again = tiny_trained(train)
    other = tiny_engine(again)
    facts, feed = read_state(tmp_path, other, again.trained())
    assert torch.equal(torch.rand(1), next_number)
    assert facts == {"feed": {"position": 7}}
    assert torch.equal(feed["columns.x"], torch.ones(2))
    assert (other.step, other.bad_steps) == (2, 1)
    assert updated(other, 2).update(preference_batch(seed=3)) == metrics
    wanted, found = tensors(engine, loaded), tensors(other, again)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_a_checkpoint_before_the_first_update_can_be_gone_on_from(train: str, tmp_path: Path):
    loaded = tiny_trained(train)
    save(tmp_path, tiny_engine(loaded), loaded, {}, {})
    again = tiny_engine(loaded)
    assert read_state(tmp_path, again, loaded.trained()) == ({}, {})
    assert again.step == 0


def test_a_checkpoint_holds_safetensors_and_json_alone(tmp_path: Path):
    loaded = tiny_trained("lora")
    save(tmp_path, updated(tiny_engine(loaded), 0), loaded, {}, {})
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}
    assert set(load_file(tmp_path / WEIGHTS)) == set(loaded.trained())


def test_a_checkpoint_of_another_model_is_refused_with_a_name_that_is_odd(tmp_path: Path):
    loaded = tiny_trained("lora")
    save(tmp_path, tiny_engine(loaded), loaded, {}, {})
    with pytest.raises(ValueError, match=r"does not fit the run's model: .* has the shape .*None"):
        read_weights(tmp_path, tiny_trained("full").trained())


def test_weights_of_another_shape_are_refused(tmp_path: Path):
    loaded = tiny_trained("lora")
    wrong = {name: torch.zeros(*p.shape[:-1], p.shape[-1] + 1) for name, p in loaded.trained().items()}
    save_file(wrong, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=r"does not fit the run's model: .* has the shape"):
        read_weights(tmp_path, loaded.trained())


def test_weights_alone_are_those_of_the_checkpoint(train: str, tmp_path: Path):
    loaded = tiny_trained(train)
    save(tmp_path, updated(tiny_engine(loaded), 0), loaded, {}, {})
    again = tiny_trained(train)
    read_weights(tmp_path, again.trained())
    assert all(torch.equal(p, again.trained()[name]) for name, p in loaded.trained().items())


def without(name: str, folder: Path) -> None:
    tensors = load_file(folder / name)
    tensors.pop(next(iter(tensors)))
    save_file(tensors, folder / name)


def reshaped(name: str, folder: Path) -> None:
    save_file({key: value.flatten()[:1] for key, value in load_file(folder / name).items()}, folder / name)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / WEIGHTS).write_bytes(b"{"), "weights.safetensors: holds no tensors that can be read"),
        (lambda folder: without(WEIGHTS, folder), "does not fit the run's model"),
        (lambda folder: (folder / "optimiser.safetensors").unlink(), "optimiser.safetensors: holds no tensors"),
        (lambda folder: reshaped("optimiser.safetensors", folder), "has another shape than the parameter"),
        (lambda folder: without("random.safetensors", folder), "random.safetensors: holds no random state"),
        (lambda folder: reshaped("random.safetensors", folder), "random.safetensors: holds no random state"),
        (lambda folder: (folder / "state.json").write_bytes(b"[]"), "state.json: is no object"),
        (lambda folder: (folder / "state.json").write_bytes(b'{"step": "x"}'), "state.json: step is 'x'"),
        (lambda folder: (folder / "state.json").write_bytes(b'{"step": 1, "bad_steps": 0}'), "facts is missing"),
    ],
)
def test_a_file_that_holds_something_else_is_one_sentence(
    tmp_path: Path, damage: Callable[[Path], None], sentence: str
):
    loaded = tiny_trained("lora")
    engine = updated(tiny_engine(loaded), 0)
    save(tmp_path, engine, loaded, {}, {"columns.x": torch.ones(2)})
    damage(tmp_path)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        read_state(tmp_path, engine, loaded.trained())
