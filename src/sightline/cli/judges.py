"""Commands about judges: other models as judges of answers, and models behind an HTTP server."""

import importlib.util
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.table import Table

from sightline import progress
from sightline.cli.parts import AT_LEAST_ONE, FLAG, app, cell, expect_file, say, show
from sightline.config import ConfigError
from sightline.config.judge import check_judge_present, load_judge, shown_yaml
from sightline.fields import RecordError, parse_json
from sightline.journal import atomic_write

if TYPE_CHECKING:
    from sightline.build.judge_summary import JudgeSummary
    from sightline.evaluation.statistics import Interval

MISBEHAVE_CURE = 'give a JSON object, such as \'{"errors": 0.05, "malformed": 0.05, "seconds": 0.2}\''


@app.command
def judge(
    *overrides: Annotated[str, Parameter(name="KEY=VALUE")],
    judge: str,
    source: Path | None = None,
    out: Path | None = None,
    root: Path | None = None,
    json_out: Annotated[Path | None, Parameter(name="--json")] = None,
    dry_run: Annotated[bool, FLAG] = False,
) -> None:
    """Let a model judge the answers in a file: pairs, ratings or claims go into its groups as signals.

    The judge is any OpenAI-compatible server, or a run or model in this process; docs/judges.md explains every key.
    Replies are kept on disk as they come: stopped or killed, the same command goes on, and asks nothing twice.

    Example: `sightline judge --source groups.jsonl --judge judges/pairwise --out judged.jsonl judge.model=gpt-5-mini`

    Args:
        overrides: Keys of the judge recipe that are to be other than it says.
        judge: A judge recipe: a YAML file, or a shipped one (judges/pairwise, judges/vlfeedback, judges/rlaif_v_world).
        source: JSONL or Parquet file of groups.
        out: File for the judged groups, written when all are; may be the source itself.
        root: Folder that image paths are relative to; by default that of the source.
        json_out: Write the summary to this file too.
        dry_run: Print the resolved judge recipe and stop.
    """
    recipe = load_judge(judge, overrides)
    if dry_run:
        say(shown_yaml(recipe), end="")
        return
    if source is None or out is None:
        raise ConfigError("judge: --source and --out are needed; name the groups to judge and the file to write")
    expect_file(source)
    check_judge_present(recipe, source=judge)
    from sightline.build.judges import judge_groups

    found = judge_groups(source=source, judge=recipe, out=out, root=root, say=progress.say)
    _show(found)
    say(out)
    if source.resolve().parent != out.resolve().parent and root is None:
        say(f"image paths are as they were: set data.root to {source.parent} when you use {out}")
    if json_out is not None:
        atomic_write(json_out, json.dumps(asdict(found), indent=1) + "\n")


@app.command
def serve(
    target: str,
    /,
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 8000,
    model_name: str | None = None,
    max_batch: Annotated[int, AT_LEAST_ONE] = 32,
    max_tokens: Annotated[int, AT_LEAST_ONE] = 1024,
    misbehave: str | None = None,
    trust_remote_code: Annotated[bool, FLAG] = False,
) -> None:
    """Serve a run or model over HTTP, as OpenAI's API does chat completions, pictures included.

    For judges, notebooks and tests on this machine: requests that arrive together share a batch, no key is asked for,
    and pictures come as data: URLs.

    Example: `sightline serve runs/dpo_world --port 8000`

    Args:
        target: A run folder, `world:base`, `world:ceiling`, a folder with a model, or a hub id.
        host: Address to listen on; 0.0.0.0 lets other machines in.
        port: Port to listen on; 0 takes a free one.
        model_name: What clients call the model; by default the target.
        max_batch: Requests answered together; memory follows it.
        max_tokens: Longest answer that may be asked for.
        misbehave: Shares of answers that go wrong, as a JSON object, to try a client: errors (500 or 429), broken,
            malformed, refusals; seconds that each answer is held back; retry_after, seed.
        trust_remote_code: Run the model's own Python code; a run folder never allows it by itself.
    """
    if any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn")):
        raise ConfigError("serve needs starlette and uvicorn; run `pip install 'sightline[serve]'`")
    from sightline.serving.misbehave import read_misbehaviour

    how = None
    if misbehave is not None:
        how = read_misbehaviour(_json_object(misbehave))
    from sightline.build.loading import Trusted
    from sightline.build.serve import serve as serve_target

    serve_target(
        target=Trusted(target) if trust_remote_code else target,
        host=host,
        port=port,
        model_name=model_name,
        max_batch=max_batch,
        max_tokens=max_tokens,
        misbehave=how,
        say=progress.say,
    )


def _json_object(text: str) -> dict[str, object]:
    try:
        given = parse_json(text, "--misbehave")
    except RecordError as error:
        raise ConfigError(f"--misbehave {error.problem}; {MISBEHAVE_CURE}") from error
    if not isinstance(given, dict):
        raise ConfigError(f"--misbehave is {text}; {MISBEHAVE_CURE}")
    return given


def _show(found: "JudgeSummary") -> None:
    """The summary as a table of facts."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    sent = "" if found.requests is None else f"; {found.requests:,} requests, {found.retries:,} of them retries"
    table.add_row("questions", f"{found.questions:,} about {found.groups:,} groups: {found.asked:,} asked now{sent}")
    table.add_row("replies", cell(_replies(found)))
    tokens = f"{found.prompt_tokens:,} in, {found.completion_tokens:,} out"
    spent = "" if found.cost is None else f"; cost {found.cost:,.4f}"
    spent += f", {found.cost_now:,.4f} of it now" if found.cost_now is not None else ""
    table.add_row("tokens", tokens + spent)
    table.add_row("signals", _counted(found.signals) or "none")
    if found.left_out:
        table.add_row("left out", _counted(found.left_out))
    if found.position_bias is not None:
        told = f"the first place wins {_percent(found.position_bias)} of decided comparisons; 50% is none"
        table.add_row("position bias", told)
    if found.self_agreement is not None:
        table.add_row("self-agreement", f"{_percent(found.self_agreement)} of the questions that were asked twice")
    for name, interval in found.agreement.items():
        told = f"{_percent(interval)} of {found.compared[name]:,} pairs that both decide"
        table.add_row(cell(f"agrees with {name}"), told)
    show(table)
    if found.failed:
        say(f"{found.failed} questions got no reply, the last because {found.last_problem}")
        say("the same command asks these again, and nothing else")


def _replies(found: "JudgeSummary") -> str:
    told = [f"{found.read:,} read", f"{found.refused:,} refused", f"{found.failed:,} missing"]
    malformed = sum(found.malformed.values())
    kinds = f" ({_counted(found.malformed)})" if malformed else ""
    return ", ".join([*told[:1], f"{malformed:,} malformed{kinds}", *told[1:]])


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{num:,} {name}" for name, num in counts.items())


def _percent(interval: "Interval") -> str:
    return f"{interval.estimate:.1%} ({interval.low:.1%} to {interval.high:.1%})"
