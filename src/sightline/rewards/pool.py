"""Rewards beside the model: worker processes, a time limit for every call, and what happens when a reward fails.

A reward is somebody's code on text that a model wrote. It may raise, hang or give NaN; then the answer is treated by
policy (left out, worth zero, or the run stops), counted, and kept with its input. Knows neither rewards by name nor
advantages: workers get a factory of the judging function, by module and name, and its plain arguments.
"""

import base64
import json
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from sightline.progress import each, phase
from sightline.records import Completion
from sightline.rewards.contract import Judged, RewardContext, Score, scored

OnError = Literal["exclude", "zero", "stop"]
START_SECONDS = 120.0


class RewardFailed(RuntimeError):
    """A reward failed and the run is set to stop then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One answer to be judged."""

    completion: Completion
    """The answer."""
    context: RewardContext
    """What is known; without `load_image`, which workers make themselves."""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Options by reward that a curriculum has set for now."""
    picture: bytes | str | None = None
    """The prompt's first picture, encoded or by path, for rewards that look."""


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    pipe: Connection
    queue: deque[int] = field(default_factory=deque)
    since: float = 0.0


class RewardPool:
    """Processes that judge answers. State: the processes, and the failures that were seen."""

    def __init__(
        self,
        factory: str,
        arguments: Mapping[str, Any],
        *,
        num_workers: int = 1,
        timeout: float = 10.0,
        on_error: OnError = "exclude",
        report: Callable[[Call, str], None] = lambda call, problem: None,
    ) -> None:
        """`factory` is "module:function"; called with `arguments` in each worker it gives `judge(call)`.

        With no workers the judging runs in this process, without a time limit.
        """
        self._factory, self._arguments = factory, dict(arguments)
        self._timeout, self._on_error, self._report = timeout, on_error, report
        self._here = _made(factory, self._arguments) if num_workers == 0 else None
        self._workers = [_start(factory, self._arguments) for _ in range(num_workers)]

    def __call__(self, calls: Sequence[Call]) -> list[Judged]:
        """Every call judged, in order."""
        if self._here is None:
            given = self._scattered(calls)
        else:
            given = [_judged(self._here, call) for call in each(calls, "judging answers", len(calls))]
        return [self._settled(call, found) for call, found in zip(calls, given, strict=True)]

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.pipe.close()
            worker.process.kill()
            worker.process.wait()
        self._workers = []

    def _scattered(self, calls: Sequence[Call]) -> list[Judged]:
        found: list[Judged | None] = [None] * len(calls)
        for k, worker in enumerate(self._workers):
            self._hand_out(worker, calls, deque(range(k, len(calls), len(self._workers))))
        with phase("judging answers", len(calls)) as judged:
            while any(worker.queue for worker in self._workers):
                self._wait(calls, found)
                judged.reach(len(calls) - sum(len(worker.queue) for worker in self._workers))
        return [judged for judged in found if judged is not None]

    def _wait(self, calls: Sequence[Call], found: list[Judged | None]) -> None:
        """Take what workers have ready; a worker that takes too long is replaced."""
        busy = {worker.pipe: k for k, worker in enumerate(self._workers) if worker.queue}
        for pipe in wait(list(busy), timeout=min(self._timeout, 0.5)):
            assert isinstance(pipe, Connection)
            self._receive(busy[pipe], calls, found)
        for k, worker in enumerate(self._workers):
            if worker.queue and time.monotonic() - worker.since > self._timeout:
                self._replace(k, calls, found, f"took longer than {self._timeout:g} seconds")

    def _hand_out(self, worker: _Worker, calls: Sequence[Call], numbers: deque[int]) -> None:
        worker.queue, worker.since = numbers, time.monotonic()
        if numbers:
            _send(worker.pipe, [_plain(calls[n]) for n in numbers])

    def _receive(self, k: int, calls: Sequence[Call], found: list[Judged | None]) -> None:
        worker = self._workers[k]
        try:
            plain = _receive(worker.pipe)
            found[worker.queue[0]] = Judged(**plain | {"placed": tuple((c, a) for c, a in plain["placed"])})
        except (EOFError, OSError):
            self._replace(k, calls, found, "ended its process")
            return
        worker.queue.popleft()
        worker.since = time.monotonic()

    def _replace(self, k: int, calls: Sequence[Call], found: list[Judged | None], problem: str) -> None:
        """A worker that hangs or died on its first call: that call failed, a new worker takes the others."""
        worker = self._workers[k]
        found[worker.queue.popleft()] = Judged(value=None, problem=problem)
        worker.pipe.close()
        worker.process.kill()
        worker.process.wait()
        self._workers[k] = _start(self._factory, self._arguments)
        self._hand_out(self._workers[k], calls, worker.queue)

    def _settled(self, call: Call, judged: Judged) -> Judged:
        if judged.problem is None:
            return judged
        self._report(call, judged.problem)
        if self._on_error == "stop":
            said = call.completion.text[:200]
            raise RewardFailed(
                f"a reward {judged.problem} on the answer {said!r}; mend the reward, or set rollout.on_reward_error "
                "to exclude or zero"
            )
        return Judged(value=0.0 if self._on_error == "zero" else None, parts=judged.parts, problem=judged.problem)


def _start(factory: str, arguments: dict[str, Any]) -> _Worker:
    """A fresh interpreter at the other end of a socket; unlike multiprocessing's, it never runs the user's script."""
    ours, theirs = socket.socketpair()
    command = f"from sightline.rewards.pool import work; work({theirs.fileno()})"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", command], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
    )
    theirs.close()
    pipe = Connection(ours.detach())
    _send(pipe, [factory, arguments])
    if not pipe.poll(START_SECONDS):
        process.kill()
        raise RewardFailed(f"a reward process did not start within {START_SECONDS:g} seconds; import less in it")
    try:
        problem = _receive(pipe)
    except EOFError:
        problem = "its process ended while it was loaded"
    if problem is not None:
        process.wait()
        raise ValueError(f"rewards: {problem}")
    return _Worker(process, pipe)


def work(descriptor: int) -> None:
    """The life of a worker: make the judge once, then answer every call at once, one by one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends its workers
    sys.path.append(str(Path.cwd()))  # at the end: a file beside the data never hides the library
    pipe = Connection(descriptor)
    try:
        judge = _made(*_receive(pipe))
    except Exception as error:  # noqa: BLE001 (somebody's module; the parent says what it was)
        _send(pipe, str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")
        return
    _send(pipe, None)
    while True:
        try:
            calls = [_call(plain) for plain in _receive(pipe)]
        except (EOFError, OSError):
            return
        for call in calls:
            _send(pipe, asdict(_judged(judge, call)))


def _send(pipe: Connection, value: Any) -> None:
    """As JSON, so that nothing which comes back from somebody's reward can be more than data."""
    pipe.send_bytes(json.dumps(value).encode())


def _receive(pipe: Connection) -> Any:
    return json.loads(pipe.recv_bytes())


def _plain(call: Call) -> dict[str, Any]:
    context = {f.name: getattr(call.context, f.name) for f in fields(call.context) if f.name != "load_image"}
    picture = base64.b64encode(call.picture).decode() if isinstance(call.picture, bytes) else None
    path = call.picture if isinstance(call.picture, str) else None
    return {
        "completion": asdict(call.completion),
        "context": context | {"truth": dict(call.context.truth), "given": _plain_scores(call.context.given)},
        "options": {name: dict(options) for name, options in call.options.items()},
        "picture": picture,
        "path": path,
    }


def _call(plain: Mapping[str, Any]) -> Call:
    completion, context = dict(plain["completion"]), dict(plain["context"])
    for record, names in ((completion, ("token_ids", "behaviour_logprobs")), (context, ("image_size", "seen_size"))):
        record |= {name: tuple(record[name]) for name in names if record[name] is not None}
    context["given"] = {name: None if score is None else _score(score) for name, score in context["given"].items()}
    picture = plain["path"] if plain["picture"] is None else base64.b64decode(plain["picture"])
    return Call(
        completion=Completion(**completion),
        context=RewardContext(**context),
        options=plain["options"],
        picture=picture,
    )


def _plain_scores(scores: Mapping[str, Score | None]) -> dict[str, Any]:
    return {name: None if score is None else asdict(score) for name, score in scores.items()}


def _score(plain: Mapping[str, Any]) -> Score:
    placed = tuple((place, amount) for place, amount in plain["placed"])
    return Score(value=plain["value"], parts=plain["parts"], placed=placed)


def _made(factory: str, arguments: Mapping[str, Any]) -> Callable[[Call], Any]:
    module, _, name = factory.partition(":")
    return vars(import_module(module))[name](**arguments)


def _place(error: Exception) -> str:
    """Where somebody's reward raised: its file and line; nothing for what was raised in this package."""
    package = str(Path(__file__).parents[1])
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(package)]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _judged(judge: Callable[[Call], Any], call: Call) -> Judged:
    """The one edge where anything may come out of a reward; whatever does is turned into a sentence."""
    try:
        score = scored(judge(call))
    except Exception as error:  # noqa: BLE001 (a reward on untrusted text may raise anything)
        return Judged(value=None, problem=f"raised {type(error).__name__}: {error}{_place(error)}")
    if score is None:
        return Judged(value=None)
    return Judged(
        value=float(score.value),
        parts={k: float(v) for k, v in score.parts.items()},
        placed=tuple((int(place), float(amount)) for place, amount in score.placed),
    )
