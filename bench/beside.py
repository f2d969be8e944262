"""How much slower a DPO step is beside busy processes, started from a plain shell.

    python -m bench.beside

Trains a few DPO updates of 16 pairs of the embedded model by the command `sightline train`, in turns alone and beside
four processes that compute without end, with no variable of OpenMP set by the caller. Two cores that are shared fairly
by two threads and four other processes leave a third: a factor of three is what the sharing itself costs, more is
threads that spin while they wait. `--spin` sets OMP_WAIT_POLICY=ACTIVE for comparison. Prints medians and their ratio.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from sightline.build import world_groups
from sightline.journal import Journal

STEPS = 12
WARM = 2
"""Updates that are not counted."""
BUSY = 4


def main() -> None:
    """Make the pairs, train in turns, compare."""
    parser = argparse.ArgumentParser(description="A DPO step beside busy processes.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spin", action="store_true", help="let waiting threads spin")
    parser.add_argument("--json", type=Path, default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pairs = Path(folder) / "pairs.jsonl"
        world_groups(task="describe", split="train", num=60, out=pairs, annotator="person", say=lambda line: None)
        seconds: dict[str, list[float]] = {"alone": [], "beside": []}
        for round_number in range(asked.rounds):
            for place in seconds:
                seconds[place].append(_step(Path(folder), pairs, f"{place}-{round_number}", place, spin=asked.spin))
                print(f"{place}: {seconds[place][-1]:.2f} s a step", flush=True)
    medians = {place: statistics.median(values) for place, values in seconds.items()}
    found = {"seconds": seconds, "medians": medians, "ratio": medians["beside"] / medians["alone"], "busy": BUSY}
    found |= {"cores": os.cpu_count(), "spin": asked.spin}
    print(
        f"{medians['alone']:.2f} s alone, {medians['beside']:.2f} s beside {BUSY} busy processes: {found['ratio']:.1f}"
    )
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


def _step(folder: Path, pairs: Path, name: str, place: str, *, spin: bool) -> float:
    """Median seconds of an update of a run in a process of its own."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "MKL_", "KMP_", "GOMP_"))}
    plain |= {"OMP_WAIT_POLICY": "ACTIVE"} if spin else {}
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY * (place == "beside"))]
    run = folder / name
    try:
        command = [sys.executable, "-m", "sightline.cli", "train", "dpo_world", "--out", str(run)]
        command += ["--data.files", f"[{pairs}]", "--train.steps", str(STEPS), "--train.groups_per_step", "16"]
        subprocess.run(command, check=True, env=plain, stdout=subprocess.DEVNULL)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    rows = Journal.open(run).read_updates()
    return statistics.median(row["time/model_seconds"] for row in rows[WARM:])


if __name__ == "__main__":
    main()
