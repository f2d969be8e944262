"""Learning steps against TRL and against our plain twin, in turns within one process, on the same model and data.

    python -m bench.train                                   # the stated workloads on CPU, float32
    python -m bench.train --set more --rounds 3
    python -m bench.train --device cuda --shape qwen2.5-vl-7b

Prints medians, ratios and bounds and writes rows to bench/results/. Where TRL is not installed, the twin stands alone.
"""

import argparse
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from bench.contenders import Contender, Scene, flat_gradient, our_step, plain_step, set_the_scene
from bench.memory import peak_mib
from bench.operations import Product, floor, flop, ours, peer, twin
from bench.products import product_seconds
from bench.shapes import Workload
from bench.workloads import SETS
from sightline.models.attention import tree_rectangles
from sightline.models.families import family_of
from sightline.models.forward import Policy

RESULTS = Path(__file__).parent / "results"
TWIN = "plain twin"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    """The workloads asked for; rows to a file."""
    asked = arguments()
    torch.set_num_threads(asked.threads)
    workloads = [w for w in SETS[asked.shape or asked.set] if asked.only in w.name]
    if asked.peak_of:
        [workload] = workloads
        print(json.dumps(peak(workload, asked.peak_of, asked)))
        return
    if asked.device == "cuda":
        print(f"on {torch.cuda.get_device_name()}: not tried on a GPU until a result stands in bench/RESULTS.md")
    rows: list[dict[str, Any]] = []
    for workload in workloads:
        try:
            rows += measure(workload, asked)
        except ValueError as error:  # a family that this version does not have
            print(f"{workload.name}: left out, {error}")
        write(rows, asked)


def measure(workload: Workload, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of one workload, one for each other contender."""
    family_of(workload.shape.config().model_type)  # refuse before anything is built
    peaks = {name: peak_apart(workload, name, asked) for name in makers()} if asked.peaks else {}
    scene = set_the_scene(workload, device=asked.device, dtype=asked.dtype)
    contenders = {name: make(scene) for name, make in makers().items()}
    losses, gradients = agreement(scene, contenders)
    seconds = in_turns(contenders, rounds=asked.rounds, device=asked.device)
    counted = operations(scene)
    alone = product_seconds(our_products(scene), dtype=DTYPES[asked.dtype], device=asked.device)
    fixed = {
        "workload": workload.name,
        "dtype": asked.dtype,
        "device": machine(asked.device),
        "threads": asked.threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "rounds": asked.rounds,
        "ours_seconds": statistics.median(seconds["sightline"]),
        "ours_seconds_range": [min(seconds["sightline"]), max(seconds["sightline"])],
        "ours_gflop": counted["sightline"],
        "floor_gflop": counted["floor"],
        "ours_peak_mib": peaks.get("sightline"),
        "products_seconds": alone,
        "rate_over_products": alone / statistics.median(seconds["sightline"]),
        **shares(scene),
    }
    rows = []
    for name in contenders:
        if name == "sightline":
            continue
        median = statistics.median(seconds[name])
        row = fixed | {
            "peer": name,
            "ratio": median / fixed["ours_seconds"],
            "peer_seconds": median,
            "peer_seconds_range": [min(seconds[name]), max(seconds[name])],
            "peer_gflop": counted[TWIN if name == TWIN else "peer"],
            "peer_peak_mib": peaks.get(name),
            "loss_difference": abs(losses[name] - losses["sightline"]),
            "gradient_difference": gradients[name],
            "least_ratio": None if name == TWIN else workload.least_ratio,
            "most_memory": None if name == TWIN else workload.most_memory,
        }
        rows.append(row)
        say(row)
    return rows


def makers() -> dict[str, Callable[[Scene], Contender]]:
    """Who makes each contender."""
    found = {"sightline": our_step, TWIN: plain_step}
    if importlib.util.find_spec("trl"):
        from bench import peer as theirs  # TRL is there in the bench's own environment alone

        found[theirs.NAME] = theirs.peer_step
    return found


def agreement(scene: Scene, contenders: Mapping[str, Contender]) -> tuple[dict[str, float], dict[str, float]]:
    """Loss of each on the first batch, and how far its gradient is from ours, relative."""
    losses, gradients = {}, {}
    for name, contender in contenders.items():
        contender.before()
        losses[name] = contender.gradients(0)
        gradients[name] = flat_gradient(scene)
    mine = gradients["sightline"]
    return losses, {name: float((found - mine).norm() / mine.norm()) for name, found in gradients.items()}


def in_turns(contenders: Mapping[str, Contender], *, rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each, one after another in every round; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, contender in contenders.items():
            contender.before()
            taken = timed(lambda one=contender, n=number: one.step(n), device)
            if number:
                seconds[name].append(taken)
    return seconds


def timed(run: Callable[[], Any], device: str) -> float:
    """Seconds until everything is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def operations(scene: Scene) -> dict[str, float]:
    """Counted operations of each, in 10^9."""
    text, tower, work = scene.shape.text, scene.shape.tower, scene.workload.work
    found = {
        "sightline": flop(our_products(scene)),
        TWIN: flop(twin(text, tower, work)),
        "peer": flop(peer(text, tower, work, everywhere=scene.device == "cpu")),
        "floor": floor(text, tower, work),
    }
    return {name: count / 1e9 for name, count in found.items()}


def our_products(scene: Scene) -> list[Product]:
    """All matrix products of our step."""
    layout = Policy(scene.loaded.model, scene.loaded.family).lay_out(scene.batches[0])
    return ours(scene.shape.text, scene.shape.tower, scene.workload.work, tree_rectangles(layout))


def shares(scene: Scene) -> dict[str, float]:
    """Tokens through the language model in a learning pass, images encoded in a step, and padding, ours and theirs."""
    work, batch = scene.workload.work, scene.batches[0]
    layout = Policy(scene.loaded.model, scene.loaded.family).lay_out(batch)
    rows = [layout.prompts, *layout.answers]
    cells, real = sum(r.mask.numel() for r in rows), sum(int(r.mask.sum()) for r in rows)
    longest = max(len(prompt.ids) for prompt in batch.prompts) + int(batch.lengths.max())
    theirs = sum(
        len(batch.prompts[p].ids) + n for p, n in zip(batch.group.tolist(), batch.lengths.tolist(), strict=True)
    )
    encoded = work.prompts * (2 if work.tower_trained else 0 if work.keep_features else 1)
    return {
        "ours_tokens": len(layout.tokens),
        "peer_tokens": longest * work.rows,
        "ours_images_encoded": encoded,
        "peer_images_encoded": 2 * work.rows,
        "groups_in_one_sequence": work.prompts,
        "ours_padding_share": 1 - real / cells,
        "peer_padding_share": 1 - theirs / (longest * work.rows),
    }


def peak_apart(workload: Workload, name: str, asked: argparse.Namespace) -> float | None:
    """Peak memory of one contender in a process of its own, above the loaded model."""
    command = [sys.executable, "-m", "bench.train", "--only", workload.name, "--peak-of", name]
    command += ["--device", asked.device, "--dtype", asked.dtype, "--threads", str(asked.threads)]
    command += ["--shape", asked.shape] if asked.shape else ["--set", asked.set]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name} gave no peak: {done.stderr.strip().splitlines()[-1:]}")
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])["peak_mib"]


def peak(workload: Workload, name: str, asked: argparse.Namespace) -> dict[str, float]:
    """Peak of two steps of one contender above what its model and data take."""
    scene = set_the_scene(workload, device=asked.device, dtype=asked.dtype, num_batches=2)
    contender = makers()[name](scene)
    contender.before()
    return {"peak_mib": peak_mib(lambda: [contender.step(0), contender.step(1)], asked.device)}


def say(row: Mapping[str, Any]) -> None:
    """One row for reading."""
    bound = f" (at least {row['least_ratio']})" if row["least_ratio"] else ""
    print(f"{row['workload']} [{row['dtype']}] against {row['peer']}: {row['ratio']:.2f}x{bound}")
    print(f"  {row['ours_seconds']:.2f} s against {row['peer_seconds']:.2f} s")
    over, counted = row["ours_gflop"] / row["floor_gflop"], row["peer_gflop"] / row["ours_gflop"]
    rate = row["ratio"] / counted
    print(f"  operations: {over:.3f} of the floor, {counted:.2f} times fewer; time over operations {rate:.2f}")
    print(f"  rate: {row['rate_over_products']:.0%} of that of its matrix products alone")
    if row["ours_peak_mib"] and row["peer_peak_mib"]:
        bound = f" (at most {row['most_memory']})" if row["most_memory"] else ""
        share = row["ours_peak_mib"] / row["peer_peak_mib"]
        print(f"  peak memory {row['ours_peak_mib']:.0f} MiB against {row['peer_peak_mib']:.0f}: {share:.2f}{bound}")
    print(
        f"  tokens {row['ours_tokens']} against {row['peer_tokens']}, images {row['ours_images_encoded']} against "
        f"{row['peer_images_encoded']}, padding {row['ours_padding_share']:.1%} against {row['peer_padding_share']:.1%}"
    )
    print(
        f"  losses differ by {row['loss_difference']:.1g}, gradients by {row['gradient_difference']:.1g} of their size",
        flush=True,
    )


def machine(device: str) -> str:
    """What it ran on."""
    return torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} CPU"


def write(rows: list[dict[str, Any]], asked: argparse.Namespace) -> None:
    """Rows so far, where they were asked to be."""
    name = f"train-{asked.shape or asked.set}-{asked.device}-{asked.dtype}.json"
    path = asked.json or RESULTS / name
    if rows:
        path.write_text(json.dumps(rows, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    """What may be changed from outside."""
    parser = argparse.ArgumentParser(description="Learning steps against TRL and our plain twin.")
    parser.add_argument("--set", choices=list(SETS), default="stated", help="which workloads")
    parser.add_argument("--shape", choices=list(SETS), default=None, help="the workloads of this model")
    parser.add_argument("--only", default="", help="workloads whose name holds this")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peaks", action=argparse.BooleanOptionalAction, default=True, help="measure memory too")
    parser.add_argument("--peak-of", default="", help="print the peak memory of this contender alone")
    parser.add_argument("--json", type=Path, default=None, help="file for the rows")
    asked = parser.parse_args()
    asked.dtype = asked.dtype or ("bfloat16" if asked.device == "cuda" else "float32")
    return asked


if __name__ == "__main__":
    main()
