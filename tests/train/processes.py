"""Whole runs in two processes of this machine, joined as a launcher would join them."""

import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist

from sightline.build import resume, train
from sightline.config import Recipe
from sightline.journal import recipe_of
from sightline.train.distributed import leave

SECONDS = 300.0


def _work(rank: int, meeting: Path, recipes: Sequence[Recipe]) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    for recipe in recipes:
        known = recipe_of(str(recipe.out)) is not None
        dist.barrier()
        if known:
            resume(folder=Path(str(recipe.out)), trust_remote_code=True, say=lambda line: None)
        else:
            train(recipe=recipe, say=lambda line: None)
    leave()
    os._exit(0)


def run_in_two(meeting: Path, recipes: Sequence[Recipe]) -> list[int | None]:
    """Run the recipes, or go on with them, one after another in a pair of processes; returns how both ended."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_work, args=(rank, meeting, recipes)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=SECONDS)
        process.kill()
    return [process.exitcode for process in processes]
