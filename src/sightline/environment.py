"""Where a process runs: versions, machine, commit of the current folder, command line. Kept beside every result."""

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "sightline",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "safetensors",
    "tokenizers",
    "numpy",
    "pillow",
)

_VARIABLES = (
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "MKL_NUM_THREADS",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "CUDA_VISIBLE_DEVICES",
    "HF_HOME",
    "HF_HUB_OFFLINE",
)
_EXTRA = re.compile(r"extra == ['\"]([\w.-]+)['\"]")
_NAME = re.compile(r"[\w.-]+")
_QUIET = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}


def environment() -> dict[str, Any]:
    """Where this process runs: versions, machine, commit of the current folder and command line."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": _dirty(),
        "num_cpus": os.cpu_count(),
        "argv": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def machine() -> dict[str, Any]:
    """Processor, cores, memory, and the variables that decide how libraries use them; without torch."""
    pages = (os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES"))
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_allowed": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory": pages[0] * pages[1],
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def extras() -> dict[str, list[str]]:
    """By extra of the package, the packages of it that are missing."""
    found: dict[str, list[str]] = {}
    for line in metadata.requires("sightline") or ():
        extra = _EXTRA.search(line)
        name = _NAME.match(line)
        if extra is None or name is None or extra[1] == "dev":
            continue
        missing = found.setdefault(extra[1], [])
        if _version(name[0]) is None:
            missing.append(name[0])
    return found


def _processor() -> str:
    """Its name, where the system tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1] if named is not None else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _dirty() -> bool:
    """Whether files that git follows are changed; filters that the folder's own configuration names are not run."""
    names = (_git("config", "--list", "--name-only") or "").splitlines()
    drivers = {name.rpartition(".")[0] for name in names if name.startswith("filter.")}
    emptied = [f"{driver}.{what}=" for driver in drivers for what in ("clean", "smudge", "process")]
    emptied += [f"{driver}.required=false" for driver in drivers]
    settings = [word for setting in emptied for word in ("-c", setting)]
    return bool(_git(*settings, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all"))


def _git(*words: str) -> str | None:
    """What git says of the current folder, whose configuration may be anybody's: none of its programs is run."""
    settings = ("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
    try:
        done = subprocess.run(
            ("git", *settings, *words),
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
            env={**os.environ, **_QUIET},
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
