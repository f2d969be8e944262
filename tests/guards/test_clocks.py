"""No test times anything: a clock says more about the machine's other work than about the code; bench/ measures."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CLOCKS = {
    f"{name}{unit}"
    for name in ("perf_counter", "monotonic", "process_time", "thread_time", "time")
    for unit in ("", "_ns")
} | {"clock_gettime", "timeit"}
WAITS = {
    "rewards/test_endpoint.py": "an endpoint waits as long as it was asked to",
    "train/killing.py": "the moment of a kill is waited for, with an end",
    "build/test_judges_killed.py": "the moment of a kill is waited for, with an end",
}
"""Who may read a clock, and what is waited for."""


def clocks_read(source: str) -> list[str]:
    """Functions of `time` (and `timeit`) that the source names, each with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("time", "timeit"):
            found += [f"{node.lineno}: {node.attr}"] * (node.attr in CLOCKS)
        elif isinstance(node, ast.ImportFrom) and node.module in ("time", "timeit"):
            found += [f"{node.lineno}: {name.name}" for name in node.names if name.name in CLOCKS]
    return found


@pytest.mark.parametrize("path", [path.relative_to(TESTS).as_posix() for path in sorted(TESTS.rglob("*.py"))])
def test_no_test_reads_a_clock(path: str):
    found = clocks_read((TESTS / path).read_text(encoding="utf-8"))
    if path in WAITS:
        assert found, f"{path} reads no clock any more: take it off the list"
    else:
        assert not found, (
            f"{path} reads a clock ({', '.join(found)}); count work (tests/effort.py) or measure in bench/"
        )


def test_a_clock_is_seen_however_it_is_imported():
    assert clocks_read("import time\nbegan = time.process_time()") == ["2: process_time"]
    assert clocks_read("from time import perf_counter, sleep") == ["1: perf_counter"]
    assert clocks_read("import time\ntime.sleep(1)") == []
