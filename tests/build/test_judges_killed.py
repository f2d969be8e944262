"""A thousand groups through a server that errs, and three kills: nothing asked twice, nothing lost, counts right."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from sightline.data.files import write_groups
from sightline.rewards.kept_answers import FILE
from sightline.serving.contract import Answer, ChatRequest, Failure
from sightline.serving.misbehave import Misbehaviour, is_malformed, misbehaving
from tests.build.oracle import Name, Oracle, described, name_of, name_of_row
from tests.serving.servers import MODEL, serving

pytestmark = [pytest.mark.slow, pytest.mark.resume]

NUM_GROUPS = 1000
CONCURRENCY = 8
KILLED_AFTER = (150, 700, 1500)
SECONDS = 250.0
ERRING = Misbehaviour(errors=0.05, malformed=0.05, retry_after=0.05)
launched: list[subprocess.Popen[str]] = []


class Watched:
    """The erring server. State: what was sent to it, question by question."""

    def __init__(self, oracle: Oracle) -> None:
        self._respond = misbehaving(oracle.respond, ERRING)
        self.answered: Counter[Name] = Counter()
        self.malformed: set[Name] = set()
        self.errors = 0

    def respond(self, requests: Sequence[ChatRequest]) -> list[Answer | Failure]:
        found = self._respond(requests)
        for request, given in zip(requests, found, strict=True):
            if isinstance(given, Failure):
                self.errors += 1
                continue
            self.answered[name_of(request)] += 1
            if is_malformed(request, ERRING):
                self.malformed.add(name_of(request))
        return found


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    for process in launched:
        process.kill()
        process.communicate()
    launched.clear()


def launch(folder: Path, url: str, name: str) -> subprocess.Popen[str]:
    """`sightline judge` in a process of its own, which keeps its replies in a folder of this name."""
    recipe = {
        "name": "oracle",
        "judge": {
            "kind": "endpoint",
            "base_url": url,
            "model": MODEL,
            "concurrency": CONCURRENCY,
            "retries": 20,
            "backoff": 0.05,
        },
        "protocol": {"kind": "pairwise"},
        "cache": str(folder / name),
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    words = ["--source", "groups.jsonl", "--judge", f"{name}.yaml", "--out", f"{name}.jsonl", "--json", f"{name}.json"]
    command = [sys.executable, "-m", "sightline.cli", "judge", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=folder, env=environment, text=True, stdout=pipe, stderr=pipe)
    launched.append(process)
    return process


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    return out + err  # what it does along the way is told beside the table


def kept(folder: Path, name: str) -> list[dict[str, Any]]:
    """The whole lines on disk."""
    path = folder / name / FILE
    text = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]


def kill_after(folder: Path, process: subprocess.Popen[str], num_kept: int) -> None:
    """SIGKILL when so many replies are kept."""
    path, until = folder / "killed" / FILE, time.monotonic() + SECONDS
    while not path.exists() or path.read_bytes().count(b"\n") < num_kept:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_a_thousand_groups_three_kills_and_an_erring_server(tmp_path: Path):
    groups = described(NUM_GROUPS, most=2)
    write_groups(tmp_path / "groups.jsonl", groups)
    server = Watched(Oracle(groups))
    safe: list[set[Name]] = []
    asked_before: list[Counter[Name]] = []
    with serving(server.respond) as url:
        for num_kept in KILLED_AFTER:
            process = launch(tmp_path, url, "killed")
            kill_after(tmp_path, process, num_kept)
            safe.append({name_of_row(row["asked"]) for row in kept(tmp_path, "killed")})
            asked_before.append(server.answered.copy())
            assert not (tmp_path / "killed.jsonl").exists()
        said = finish(launch(tmp_path, url, "killed"))
        first, errors = server.answered.copy(), server.errors
        undisturbed = finish(launch(tmp_path, url, "undisturbed"))

    # Nothing asked twice: what was on disk at a kill was never sent again, and only what was in flight was.
    for names, before in zip(safe, asked_before, strict=True):
        assert all(first[name] == before[name] for name in names)
    twice = {name: num for name, num in first.items() if num > 1}
    assert sum(num - 1 for num in twice.values()) <= CONCURRENCY * len(KILLED_AFTER)

    # Nothing lost: the same file as without kills, every question with its one reply.
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "undisturbed.jsonl").read_bytes()
    names = [name_of_row(row["asked"]) for row in kept(tmp_path, "killed")]
    assert len(names) == len(set(names))
    assert set(names) == set(first)

    # Counts right: as the server saw it, and as without kills.
    found, whole = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("killed", "undisturbed"))
    assert found["groups"] == NUM_GROUPS
    assert sum(found["malformed"].values()) == len(server.malformed)
    assert found["questions"] == found["read"] + len(server.malformed) == len(first)
    assert (found["failed"], found["refused"]) == (0, 0)
    assert found["asked"] == len(first) - len(safe[-1])
    assert found["requests"] == found["asked"] + found["retries"]
    now = ("asked", "kept", "requests", "retries")
    assert {k: v for k, v in found.items() if k not in now} == {k: v for k, v in whole.items() if k not in now}
    assert found["agreement"]["rules"]["estimate"] == 1.0
    assert errors > 0
    assert "keeps" in said
    assert "keeps" not in undisturbed
    sys.stdout.write(
        f"\n{said}\n{len(twice)} questions sent twice, {errors} errors, kept at the kills: {[*map(len, safe)]}\n"
    )
