"""Two gloo processes, each with its shard of a batch, give the step that one process gives on the whole.

One pair of processes runs all scenarios; each writes what it found, and the tests read it.
"""

import json
import math
import multiprocessing
import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from sightline.batch import Batch
from sightline.models.load import Loaded
from sightline.models.sharding import whole
from sightline.objectives.imitation import sft_objective
from sightline.objectives.objective import Objective
from sightline.objectives.preference import dpo_objective
from sightline.train.distributed import leave, rank_and_size, sum_gradients, sum_over_ranks
from sightline.train.engine import Engine
from tests.tiny import largest_difference, taken_gradients, tiny_trained
from tests.train.engines import preference_batch, tiny_engine
from tests.train.test_coupled import product_objective

pytestmark = pytest.mark.exactness


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Which prompts each process holds, and what is trained."""

    shards: tuple[tuple[int, ...], tuple[int, ...]]
    objective: Objective
    train: str = "full"
    whole: bool = False
    token_budget: int = 10_000
    broken: bool = False

    def model(self) -> Loaded:
        return tiny_trained(self.train, train_tower=self.whole, train_projector=self.whole)

    def engine(self, loaded: Loaded) -> Engine:
        engine = tiny_engine(loaded, objective=self.objective, token_budget=self.token_budget, max_grad_norm=0.1)
        engine.optimiser = torch.optim.SGD(loaded.trained().values(), lr=1.0)
        return engine

    def batch(self) -> Batch:
        batch = preference_batch()
        if self.broken:  # in the second process alone
            batch.columns["ref_logprobs"][-1, 0] = float("inf")
        return batch


HOW = ("whole", "cut")
"""Each process holds all weights, or its part of them."""
ANCHORED = dpo_objective(beta=0.5, nll_weight=0.2)
SCENARIOS = {
    "counts differ": Scenario(shards=((0,), (1, 2)), objective=ANCHORED, whole=True),
    "one has no groups": Scenario(shards=((0, 1, 2), ()), objective=ANCHORED, whole=True),
    "the first has no groups": Scenario(shards=((), (0, 1, 2)), objective=ANCHORED, train="lora"),
    "one has no pictures": Scenario(shards=((0, 1), (2,)), objective=sft_objective(), whole=True),
    "numbers of micro-batches differ": Scenario(
        shards=((0,), (1, 2)), objective=sft_objective(normalise="answer"), train="lora", token_budget=1
    ),
    "the loss couples all answers": Scenario(
        shards=((0,), (1, 2)), objective=product_objective(), whole=True, token_budget=1
    ),
    "the loss couples all answers of one": Scenario(
        shards=((0, 1, 2), ()), objective=product_objective(), train="lora"
    ),
    "one is not finite": Scenario(shards=((0, 1), (2,)), objective=ANCHORED, train="lora", broken=True),
}


def one_step(
    scenario: Scenario, batch: Batch, *, shard: bool = False
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, float]]:
    """Gradient before clipping, weights after the step, and metrics; those of `measure` beside them."""
    loaded = scenario.model()
    engine = scenario.engine(loaded)
    if shard:
        engine.policy.shard()
        engine.optimiser = torch.optim.SGD(loaded.trained().values(), lr=1.0)
    engine.accumulate(batch)
    sum_gradients(engine.parameters())
    gradient = {name: whole(value) for name, value in taken_gradients(loaded.trained()).items()}
    engine.optimiser.zero_grad(set_to_none=True)
    measured = engine.measure([batch])
    metrics = engine.update(batch)
    weights = {name: whole(p.detach()).clone() for name, p in loaded.trained().items()}
    return gradient, weights, metrics | {f"measured/{name}": value for name, value in measured.items()}


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    assert rank_and_size() == (rank, 2)
    facts = {"sums": sum_over_ranks({"both": rank + 1.0, f"only {rank}": 5.0})}
    for name, scenario in SCENARIOS.items():
        for how in HOW:
            own = scenario.batch().select(scenario.shards[rank])
            gradient, weights, metrics = one_step(scenario, own, shard=how == "cut")
            save_file(gradient, folder / f"{name}-{how}-{rank}-gradient.safetensors")
            save_file(weights, folder / f"{name}-{how}-{rank}-weights.safetensors")
            facts[f"{name}-{how}"] = metrics
    (folder / f"{rank}.json").write_text(json.dumps(facts))
    leave()
    os._exit(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(rank, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    return folder


def facts(folder: Path, rank: int) -> dict[str, dict[str, float]]:
    return json.loads((folder / f"{rank}.json").read_text())


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", [name for name, scenario in SCENARIOS.items() if not scenario.broken])
def test_two_processes_give_the_gradient_the_step_and_the_metrics_of_one(name: str, how: str, folder: Path):
    scenario = SCENARIOS[name]
    gradient, weights, metrics = one_step(scenario, scenario.batch())
    assert metrics["optim/grad_norm"] > 0.1, "so that clipping is part of the step"
    for rank in range(2):
        found = load_file(folder / f"{name}-{how}-{rank}-gradient.safetensors")
        assert largest_difference(found, gradient) <= 1e-5
        assert facts(folder, rank)[f"{name}-{how}"] == pytest.approx(metrics, rel=1e-5, abs=1e-6)
        for parameter, value in load_file(folder / f"{name}-{how}-{rank}-weights.safetensors").items():
            torch.testing.assert_close(value, weights[parameter], atol=1e-6, rtol=1e-5)


def test_both_processes_end_with_the_same_bits(folder: Path):
    for name, how in product(SCENARIOS, HOW):
        first, second = (load_file(folder / f"{name}-{how}-{rank}-weights.safetensors") for rank in range(2))
        assert all(torch.equal(first[parameter], second[parameter]) for parameter in first)


def test_a_step_that_is_not_finite_in_one_process_is_skipped_in_both(folder: Path):
    scenario = SCENARIOS["one is not finite"]
    untouched = {name: p.detach() for name, p in scenario.model().trained().items()}
    for rank, how in product(range(2), HOW):
        metrics = facts(folder, rank)[f"one is not finite-{how}"]
        assert metrics["optim/skipped"] == 1
        assert not math.isfinite(metrics["loss/total"]) or not math.isfinite(metrics["optim/grad_norm"])
        weights = load_file(folder / f"one is not finite-{how}-{rank}-weights.safetensors")
        assert all(torch.equal(weights[name], untouched[name]) for name in weights)


def test_sums_over_processes_take_a_name_that_one_lacks_as_zero(folder: Path):
    for rank in range(2):
        assert facts(folder, rank)["sums"] == {"both": 3.0, "only 0": 5.0, "only 1": 5.0}


def test_one_process_is_its_own_sum():
    assert rank_and_size() == (0, 1)
    assert sum_over_ranks({"a": 1.5}) == {"a": 1.5}
