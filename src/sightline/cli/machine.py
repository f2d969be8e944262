"""The command `env`: what is installed, what the machine has, what is missing; also where torch is broken."""

import json
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from sightline.cli.parts import FLAG, app, cell, say, show
from sightline.environment import environment, extras, machine


@app.command
def env(*, as_json: Annotated[bool, FLAG, Parameter(name="--json")] = False) -> None:
    """Say what is installed and what this machine has: versions, processor, threads, GPUs, memory, extras.

    For yourself and for a report of a problem. It measures for about a second which arithmetic is fast here.

    Example: `sightline env --json`

    Args:
        as_json: Print one JSON object instead of a table.
    """
    facts = _facts()
    if as_json:
        say(json.dumps(facts, indent=1))
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in _rows(facts):
        table.add_row(name, cell(value))
    show(table)


def _facts() -> dict[str, Any]:
    here = environment()
    try:
        from sightline.models.machine import torch_facts

        torch = torch_facts()
    except (ImportError, OSError, RuntimeError) as error:  # a broken installation: that is what one wants to read here
        torch = {"problem": " ".join(f"{type(error).__name__}: {error}".split())[:400]}
    kept = {name: here[name] for name in ("python", "platform", "packages")}
    return {**kept, "machine": machine(), "torch": torch, "extras": extras()}


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    here, torch = facts["machine"], facts["torch"]
    rows = [("python", facts["python"]), ("platform", facts["platform"])]
    rows += [(name, version or "not installed") for name, version in facts["packages"].items()]
    rows.append(("processor", f"{here['processor']}, {here['cores_allowed']} of {here['cores']} cores"))
    rows.append(("memory", _gib(here["memory"])))
    if "problem" in torch:
        rows.append(("torch", f"cannot be used ({torch['problem']}); install it again"))
    else:
        rows.append(("instructions", f"{torch['cpu_capability']}, {torch['threads']} threads"))
        rows.append(("arithmetic", f"{torch['arithmetic']} ({torch['arithmetic_why']})"))
        rows += [("GPU", f"{gpu['name']}, {_gib(gpu['memory'])}, {gpu['capability']}") for gpu in torch["gpus"]]
        if not torch["gpus"]:
            rows.append(("GPU", "none" if torch["cuda"] is None else f"none that CUDA {torch['cuda']} finds"))
    rows += [(name, value) for name, value in here["variables"].items()]
    for name, missing in facts["extras"].items():
        cure = f"without {', '.join(missing)}: pip install 'sightline[{name}]'"
        rows.append((f"extra {name}", cure if missing else "there"))
    return rows


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"
