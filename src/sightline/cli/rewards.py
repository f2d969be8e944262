"""Commands about rewards: which there are, how they stand attacks, what they say of answers in a file."""

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from sightline.cli.parts import AT_LEAST_ONE, NOT_NEGATIVE, cell, expect_file, reward, say, show
from sightline.config import ConfigError
from sightline.fields import RecordError, parse_json, write_json
from sightline.journal import atomic_write
from sightline.progress import each
from sightline.registry import catalogue, find

if TYPE_CHECKING:
    from sightline.rewards.findings import Attack, KindProbed, Probed

JSON_CURE = 'give a JSON object, such as \'{"mode": "paper"}\''
MARKS = {"at least": "fails", "problem": "breaks", "below": "", "exempt": "exempt", "no opinion": "no opinion"}


@reward.command(name="list")
def reward_list() -> None:
    """List the built-in rewards: what each measures, and its options with their defaults.

    Example: `sightline reward list`
    """
    from sightline.rewards.library import load_builtin

    load_builtin()
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name in catalogue()["reward"]:
        function = find("reward", name)
        table.add_row(name, cell((inspect.getdoc(function) or "").splitlines()[0]))
        table.add_row("", cell(_options_of(function) or "no options"), style="dim")
    show(table)


@reward.command(name="probe")
def reward_probe(
    name: str,
    /,
    *,
    options: str = "{}",
    truth: str | None = None,
    beside: str | None = None,
    cases: Annotated[int, AT_LEAST_ONE] = 16,
    seed: Annotated[int, NOT_NEGATIVE] = 0,
    timeout: float = 10.0,
    json_out: Annotated[Path | None, Parameter(name="--json")] = None,
) -> int:
    """Attack a reward with answers made to fool it; exit status 1 when one earns what an honest answer earns.

    The honest answer errs a little: of boxes it drops one and has the others at an IoU of 0.7. Rules that tighten are
    attacked at every stage of a run. Works on a reward of your own too, which runs in a process of its own, and on one
    that a model gives (clip, learned, judge), whose options name the model, on descriptions of drawn scenes.

    Example: `sightline reward probe my_rewards:right_count --truth count`

    Args:
        name: A built-in reward, or module:function in the folder where you are.
        options: Options of the reward as a JSON object.
        truth: Kind of truth (boxes, target, point, count, exist, choice, answer, number, text, formula, describe,
            refuse); by default what a built-in reward reads, or all that one of your own has an opinion on.
        beside: A reward to add it to, for one that reads no truth (length, format).
        cases: How many prompts of each kind.
        seed: Another seed draws other prompts.
        timeout: Seconds for each answer, for a reward of your own.
        json_out: Write everything to this file too.
    """
    given = _json_object(options)
    from sightline.rewards.findings import as_plain
    from sightline.rewards.models import MODEL_REWARDS
    from sightline.rewards.probes import probe

    if name in MODEL_REWARDS:
        from sightline.build.probe_models import probe_model

        if beside is not None:
            raise ConfigError(f"--beside {beside}: {name} reads pictures by itself; leave it out")
        found = probe_model(name, options=given, truth=truth, cases=cases, seed=seed)
    else:
        wait = _positive(timeout)
        found = probe(name, options=given, truth=truth, beside=beside, cases=cases, seed=seed, timeout=wait)
    for kind in found.kinds:
        _show_kind(found, kind)
    for reason in dict.fromkeys(found.left_out.values()):
        kinds = [kind for kind, other in found.left_out.items() if other == reason]
        cure = "; give None where the truth lacks what it needs" if reason.startswith("raised") else ""
        say(f"not probed on {', '.join(kinds)}: {reason}{cure}")
    say(_verdict(found))
    if json_out is not None:
        atomic_write(json_out, json.dumps(as_plain(found), indent=1) + "\n")
    return 0 if found.passed else 1


@reward.command(name="score")
def reward_score(
    name: str,
    /,
    *,
    options: str = "{}",
    input_file: Annotated[Path, Parameter(name="--input")],
    output_file: Annotated[Path, Parameter(name="--output")],
    timeout: float = 10.0,
) -> None:
    """Score answers in a JSONL file: one row in, one row out, in the same order; no model is needed.

    In: {"id", "completion", "truth", "image": {"width", "height", "seen_width", "seen_height"}, "progress"}.
    Out: {"id", "value", "parts"}, or {"id", "error"} for a row that cannot be scored.

    Example: `sightline reward score vision_r1 --options '{"mode": "paper"}' --input cases.jsonl --output scores.jsonl`

    Args:
        name: A built-in reward, or module:function in the folder where you are.
        options: Options of the reward as a JSON object.
        input_file: The rows to score.
        output_file: Where the scores go; written anew.
        timeout: Seconds for each answer, for a reward of your own.
    """
    given = _json_object(options)
    if not input_file.exists() or input_file.is_dir():
        expect_file(input_file)
    if output_file.is_dir() or (output_file.exists() and output_file.samefile(input_file)):
        raise ConfigError(
            f"--output {output_file} is {'a folder' if output_file.is_dir() else 'the input'}; name a file"
        )
    from sightline.rewards.scoring import score_lines, start_scoring

    pool = start_scoring(name, given, timeout=_positive(timeout))
    num_rows = num_errors = 0
    try:
        with input_file.open("rb") as lines, output_file.open("w", encoding="utf-8") as scores:
            rows = each(score_lines(lines, pool, name), "scoring, row")
            for num_rows, row in enumerate(rows, 1):
                num_errors += "error" in row
                scores.write(write_json(row, f"row {num_rows}") + "\n")
    finally:
        pool.close()
    errors = f", {num_errors} of them with an error in place of a score" if num_errors else ""
    sys.stderr.write(f"{num_rows} rows in {output_file}{errors}\n")


def _json_object(text: str) -> dict[str, Any]:
    try:
        given = parse_json(text, "--options")
    except RecordError as error:
        raise ConfigError(f"--options {error.problem}; {JSON_CURE}") from error
    if not isinstance(given, dict):
        raise ConfigError(f"--options is {text}; {JSON_CURE}")
    return given


def _positive(timeout: float) -> float:
    if not 0 < timeout < 1e6:
        raise ConfigError(f"--timeout is {timeout:g}; give seconds above 0")
    return timeout


def _options_of(function: Callable[..., Any]) -> str:
    parameters = inspect.signature(function).parameters.values()
    options = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    return ", ".join(
        f"{option.name} (required)"
        if option.default is inspect.Parameter.empty
        else f"{option.name}: {json.dumps(option.default)}"
        for option in options
    )


def _show_kind(found: "Probed", kind: "KindProbed") -> None:
    beside = f" + {found.beside}" if found.beside else ""
    dress = f", answers in {kind.dress}" if kind.dress != "bare" else ""
    several = len(kind.stages) > 1
    honest = ", ".join(f"{stage.honest:.3f}" + f" at {stage.name}" * several for stage in kind.stages)
    title = f"{found.reward}{beside} on {kind.truth}: {found.cases} cases{dress}, honest answer {honest}"
    heads = ("attack", "median", "worst case", "honest there", *(["at"] if several else []), "")
    table = Table(*heads, title=cell(title), title_justify="left")
    for attack in kind.attacks:
        mark = MARKS[attack.verdict]
        if several and attack.wins_at:
            mark += f" at {', '.join(attack.wins_at)}" if len(attack.wins_at) < len(kind.stages) else " throughout"
        if attack is kind.closest:
            mark = f"{mark} (worst)" if mark else "closest"
        if attack.num_exempt and attack.verdict != "exempt":
            mark = f"{mark} (exempt in {attack.num_exempt})".strip()
        numbers = (_number(value) for value in (attack.median, attack.worst, attack.honest))
        place = [cell(attack.stage)] if several else []
        table.add_row(cell(attack.name), *numbers, *place, mark, style="red" if attack.failed else None)
    show(table)
    for attack in kind.attacks:
        if attack.failed:
            when = f", at progress {'; '.join(attack.wins_at)}" if several else ""
            say(f"{attack.name}: {_what_happened(attack)}{when}, such as {attack.example!r}")
    if kind.form_is_enough:
        say(
            "an empty form earns as much as the honest answer: use easier options (boxes are at IoU 0.7), see that the "
            "reward reads answers of this form, and add one that reads no truth to one that does (--beside)"
        )


def _what_happened(attack: "Attack") -> str:
    if attack.problem is not None:
        return f"{attack.problem} for an answer"
    return f"in {attack.num_failed} of {attack.num_judged} cases at least the honest score"


def _verdict(found: "Probed") -> str:
    attacks = [attack for kind in found.kinds for attack in kind.attacks]
    won = sum(attack.verdict == "at least" for attack in attacks)
    broken = sum(attack.verdict == "problem" for attack in attacks)
    if not attacks:
        return f"{found.reward} fails: it could be probed on no truth; see the reasons, or name the truth with --truth"
    if found.passed:
        return f"{found.reward} passes: none of {len(attacks)} attacks earns what an honest answer earns"
    if not won and not broken:
        return f"{found.reward} fails: the right answer earns no more than any other"
    ends = [f"{won} of {len(attacks)} attacks earn what an honest answer earns"] if won else []
    ends += [f"{broken} of {len(attacks)} attacks break it"] if broken else []
    return f"{found.reward} fails: {' and '.join(ends)}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
