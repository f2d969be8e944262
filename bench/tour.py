"""README's tour as it stands there, from the wheel, in an empty folder: `python -m bench.tour`, or `make tour`.

Builds the wheel, unpacks it into an environment that sees the packages of this one but not this checkout, and runs the
commands and the Python of the section in their order. The first that fails ends it.
"""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECTION = re.compile(r"^## A tour[^\n]*\n(.*?)(?=^## )", re.M | re.S)
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One thing that the tour does."""

    language: str
    """sh or python."""
    text: str
    """A command, or a whole block of Python."""


def stops(readme: str) -> list[Stop]:
    """The commands of the tour, each line one, and its blocks of Python."""
    section = SECTION.search(readme)
    assert section is not None, "README has no section whose heading begins with: A tour"
    found = []
    for language, block in BLOCK.findall(section[1]):
        texts = [block] if language == "python" else [line for line in block.splitlines() if line.strip()]
        found += [Stop(language=language, text=text) for text in texts]
    return found


def install_wheel(folder: Path) -> Path:
    """An environment with the wheel of this checkout and the packages of this interpreter; returns its programs."""
    built = folder / "wheel"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(built), str(ROOT)]
    environment = os.environ | {"PIP_CONSTRAINT": str(ROOT / "constraints.txt"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(command, check=True, env=environment)
    [wheel] = built.glob("sightline-*.whl")
    home = folder / "environment"
    venv.create(home)
    programs = home / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-index", str(wheel)], check=True, env=environment)
    [packages] = home.glob("lib/python*/site-packages")
    (packages / "packages_of_the_checkout.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


def run_tour(programs: Path, folder: Path) -> float:
    """Every stop in an empty folder; returns the seconds that it took."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SIGHTLINE"))}
    environment |= {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONSAFEPATH": "1"}
    began = time.monotonic()
    for stop in stops((ROOT / "README.md").read_text(encoding="utf-8")):
        sys.stdout.write(f"\n$ {stop.text}\n")
        sys.stdout.flush()
        command = ["bash", "-euc", stop.text] if stop.language == "sh" else ["python", "-c", stop.text]
        if stop.language == "python":
            command[0] = str(programs / "python")
        at = time.monotonic()
        done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, check=False)
        sys.stdout.write(f"({time.monotonic() - at:.0f} s)\n")
        if done.returncode:
            raise SystemExit(f"the tour ends here: {shlex.join(command)} gave {done.returncode}")
    return time.monotonic() - began


def main() -> None:
    """Build, install, walk."""
    with tempfile.TemporaryDirectory(prefix="sightline-tour-") as name:
        programs = install_wheel(Path(name))
        folder = Path(name) / "empty"
        folder.mkdir()
        seconds = run_tour(programs, folder)
    sys.stdout.write(f"\nthe tour took {seconds:.0f} s\n")


if __name__ == "__main__":
    main()
