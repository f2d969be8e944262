"""How a run tells a person how it goes: a bar on a terminal, now and then a line elsewhere."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Say = Callable[[str], None]
Show = Callable[[int, int, Mapping[str, float]], None]
SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def shown(console: Console, what: str) -> Iterator[Show]:
    """A function that shows each step, with loss, speed and time left."""
    if not console.is_terminal:
        yield _lines(console, what)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None, facts="")

        def show(step: int, num_steps: int, metrics: Mapping[str, float]) -> None:
            progress.update(task, completed=step, total=num_steps, facts=facts(metrics))

        yield show


def facts(metrics: Mapping[str, float]) -> str:
    """Loss or reward, and speed, in a few words."""
    said = [f"loss {metrics['loss/total']:.4f}"]
    if "rollout/length" in metrics:
        said = [f"reward {metrics['reward/mean']:.3f}", f"{metrics['rollout/length']:.0f} tokens an answer"]
    if "reward/accuracy" in metrics:
        said.append(f"pairs right {metrics['reward/accuracy']:.0%}")
    if "validation/loss/total" in metrics:
        said.append(f"validation {metrics['validation/loss/total']:.4f}")
    return ", ".join([*said, f"{metrics['time/tokens_per_second']:,.0f} tokens/s"])


def _lines(console: Console, what: str) -> Show:
    last = -SECONDS_BETWEEN_LINES
    first: tuple[int, float] | None = None

    def show(step: int, num_steps: int, metrics: Mapping[str, float]) -> None:
        nonlocal last, first
        now = time.monotonic()
        since = first = first or (step, now)  # timed from the first update on, which also warms things up
        if now - last < SECONDS_BETWEEN_LINES and step != num_steps:
            return
        last = now
        done = step - since[0]
        left = f", {(now - since[1]) / done * (num_steps - step):.0f} s left" if done else ""
        console.print(f"{what}: step {step} of {num_steps}, {facts(metrics)}{left}", highlight=False)

    return show
