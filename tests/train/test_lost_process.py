"""A run of two processes, started by the launcher of the docs, that loses one of them: it ends and can go on."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sightline.config.load import recipe_folder
from sightline.journal import Journal
from tests.train.killing import SECONDS_TO_START, after_steps, end_all, finish, launch, launched
from tests.train.runs import metrics_of, save_world, tiny_recipe, write_recipe

pytestmark = [pytest.mark.slow, pytest.mark.resume]

NUM_STEPS = 40


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    end_all()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def launch_two(recipe: Path) -> subprocess.Popen[str]:
    config = recipe_folder() / "launch" / "4_gpus.yaml"
    words = ["--config_file", config, "--num_processes", 2, "--main_process_port", free_port()]
    command = [sys.executable, "-m", "accelerate.commands.launch", *words, "-m", "sightline.cli", "train", recipe]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "GLOO_SOCKET_IFNAME": "lo"}
    process = subprocess.Popen(
        list(map(str, command)),
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    launched.append(process)
    return process


def workers(launcher: subprocess.Popen[str]) -> dict[int, psutil.Process]:
    """The launcher's processes by their number."""
    found = psutil.Process(launcher.pid).children(recursive=True)
    return {int(process.environ()["RANK"]): process for process in found if "RANK" in process.environ()}


def write_run(world: Path, out: Path, *, shard: bool) -> Path:
    recipe = tiny_recipe(
        world,
        out,
        train={"steps": NUM_STEPS, "save_every": 4, "groups_per_step": 5, "shard": shard},
        optim={"learning_rate": 3e-3, "epsilon": 0.01},
    )
    return write_recipe(recipe, out.with_suffix(".yaml"))


@pytest.mark.parametrize("shard", [False, True])
def test_a_run_that_loses_a_process_ends_and_goes_on(shard: bool, tmp_path: Path):
    save_world(tmp_path, num_groups=30)
    out = tmp_path / "out"
    recipe = write_run(tmp_path, out, shard=shard)
    for number in (1, 0):
        launcher = launch_two(recipe)
        moment = after_steps(out, 8, 0.0, num_steps=NUM_STEPS)
        while not moment():
            assert launcher.poll() is None, launcher.communicate()
        workers(launcher)[number].send_signal(signal.SIGKILL)
        _, err = launcher.communicate(timeout=SECONDS_TO_START)
        assert launcher.returncode != 0
        latest = Journal.open(out).latest()
        assert latest is not None
        if number == 1:  # the first process is there to say so
            assert Journal.open(out).read_status()["state"] == "failed"
            assert f"everything up to {latest.name} is saved; " in err
            assert "go on with the same command, on any number of processes" in err
    status, _, err = finish(launch("resume", out))
    assert status == 0, err
    whole = write_run(tmp_path, tmp_path / "whole", shard=False)
    assert finish(launch("train", whole))[0] == 0
    for row, wanted in zip(metrics_of(out)[1:], metrics_of(tmp_path / "whole")[1:], strict=True):
        assert row == pytest.approx(wanted, rel=1e-3, abs=1e-3)
