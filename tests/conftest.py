"""What every test shares: checked shapes, torch's state, marks that need a device, the closing count.

Nothing here imports torch while tests are collected: a run over torch-free rooms stays fast.
"""

import importlib.util
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: workers share the cores
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if importlib.util.find_spec("sightline") and importlib.util.find_spec("sightline.objectives"):
    from jaxtyping import install_import_hook

    install_import_hook("sightline.objectives", "beartype.beartype")

DESELECTED = pytest.StashKey[Counter[str]]()
SEED = 0


def find_chromium() -> str | None:
    """Path of the first Chromium on PATH."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser that page tests hand to Playwright as `executable_path`."""
    path = find_chromium()
    if path is None:
        pytest.skip("no chromium")
    return path


@pytest.fixture(autouse=True)
def torch_state() -> Iterator[None]:
    """Seed torch and take back a changed thread count, in tests of modules that have imported torch."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    num_threads = torch.get_num_threads()
    torch.manual_seed(SEED)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """This process and its children hear SIGINT, also where it was ignored at the start (a background job, some CI)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
    if item.get_closest_marker("browser") and find_chromium() is None:
        pytest.skip("no chromium")


# The closing count: what this run left out, and why.


def pytest_configure(config: pytest.Config) -> None:
    config.stash[DESELECTED] = Counter()


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        marks = (mark for mark in ("gpu", "browser", "network", "slow") if item.get_closest_marker(mark))
        item.config.stash[DESELECTED][next(marks, "fast")] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        session.config.workeroutput["deselected"] = dict(session.config.stash[DESELECTED])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    """Take a worker's counts; each worker has collected everything, so the largest count is the count."""
    node.config.stash[DESELECTED] |= Counter(getattr(node, "workeroutput", {}).get("deselected", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left_out = [f"{count} {mark} ({why_not(mark)})" for mark, count in sorted(config.stash[DESELECTED].items())]
    skipped = Counter(skip_reason(report) for report in terminalreporter.stats.get("skipped", []))
    left_out += [f"{count} skipped ({reason})" for reason, count in sorted(skipped.items())]
    terminalreporter.write_line("not run here: " + (", ".join(left_out) or "nothing"))


def why_not(mark: str) -> str:
    """What is missing for the tests of this mark, else the command that runs them."""
    if mark == "gpu" and not Path("/dev/nvidiactl").exists():  # torch is not imported for a sentence
        return "no CUDA device"
    if mark == "browser" and find_chromium() is None:
        return "no chromium"
    return {"fast": "make test", "slow": "make test-slow"}.get(mark, f"pytest -m {mark}")


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The reason given to pytest.skip."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")
