"""Probes: a reward is attacked before it is trusted.

For every kind of truth that a reward reads, cases are drawn, and answers made to fool it are scored beside an honest
imperfect one, at every stage of a run (`stages`). An attack that scores at least what the honest answer of the same
case scores at the same stage is a failure, unless it happens to be the truth; so is one on which the reward raises,
hangs or gives no finite number. Rewards that read no truth (format, length) are probed in a sum with one that does.
Knows no world: pictures are coloured boxes.
"""

import io
import math
import random
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image, ImageDraw

from sightline.records import Completion
from sightline.registry import did_you_mean
from sightline.rewards import hostile_answers, hostile_boxes
from sightline.rewards.boxes import SPACES, Space
from sightline.rewards.contract import RewardContext
from sightline.rewards.findings import Attack, KindProbed, Probed, StageProbed
from sightline.rewards.hostile import DRESSES, Case, dressed, says_the_same
from sightline.rewards.judging import FACTORY
from sightline.rewards.pool import Call, RewardPool
from sightline.rewards.stages import Stage, stages_of

CLOSE = 1e-9
"""Scores this near are equal."""
MAX_TOKENS = 1024
TOO_MANY_TOKENS = 4096
CHARACTERS_PER_TOKEN = 4
DRESS_CASES = 3
HUNG = "took longer than"
WITHOUT_CONTENT = ("empty", "format only")

KINDS: dict[str, Callable[[random.Random, Space], Case]] = {
    "boxes": hostile_boxes.boxes,
    "target": hostile_boxes.target,
    "point": hostile_boxes.point,
    "count": hostile_answers.count,
    "exist": hostile_answers.exist,
    "choice": hostile_answers.choice,
    "answer": hostile_answers.answer,
    "number": hostile_answers.number,
    "text": hostile_answers.text,
    "formula": hostile_answers.formula,
    "describe": hostile_boxes.describe,
    "refuse": hostile_answers.refuse,
}
"""Kinds of truth by name, each with what draws a case of it."""
KIND_OF = {
    "vision_r1": "boxes",
    "rec_iou": "target",
    "map": "boxes",
    "od_length": "boxes",
    "visual_rft": "boxes",
    "box_f1": "boxes",
    "count": "count",
    "yes_no": "exist",
    "choice": "choice",
    "number": "number",
    "text_distance": "text",
    "point_in_box": "point",
    "math": "formula",
    "hallucination": "describe",
    "refusal": "refuse",
}
"""The truth that each built-in reward reads."""
REWARD_OF = {kind: name for name, kind in KIND_OF.items() if kind != "boxes"} | {
    "boxes": "map",
    "answer": "text_distance",
}
"""What stands beside a reward that reads no truth."""
SHAPING = ("format", "think_answer", "length", "overlong", "repetition")
TEMPLATE_KINDS = {"number": "count", "yes_no": "exist", "choice": "choice"}


def probe(
    name: str,
    *,
    options: Mapping[str, Any] | None = None,
    truth: str | None = None,
    beside: str | None = None,
    cases: int = 16,
    seed: int = 0,
    timeout: float = 10.0,
) -> Probed:
    """Attack a reward, built in or "module:function", on the kinds of truth that it reads.

    Args:
        name: The reward.
        options: Its options.
        truth: The kind of truth, one of KINDS; None: what is declared of a built-in reward, else every kind on which
            the reward has an opinion and for which the right answer earns more than some other.
        beside: A reward to which this one is added; None: what is declared of a built-in one that reads no truth.
        cases: Cases of each kind.
        seed: Another seed draws other cases.
        timeout: Seconds for each answer, for a reward that is not built in.
    """
    given = dict(options or {})
    check_values(name, given)
    kinds = _kinds(name, given, truth)
    if beside is None and name in SHAPING:
        beside = REWARD_OF[kinds[0]]
    others = any(":" in reward for reward in (name, beside or ""))
    stages = stages_of(name, given, beside=beside)
    pool = pool_of(_entries(name, given, beside), num_workers=int(others), timeout=timeout)
    try:
        found: dict[str, KindProbed | str] = {}
        for kind in kinds:
            drawn = [_drawn(kind, f"{seed}/{i}", given) for i in range(cases)]
            judge = _Judge(pool, label=_label(name), with_picture=others)
            found[kind] = result = probe_kind(kind, drawn, judge, stages)
            if isinstance(result, str) and HUNG in result:
                break
    finally:
        pool.close()
    left_out = {kind: result for kind, result in found.items() if isinstance(result, str)}
    probed = [result for result in found.values() if isinstance(result, KindProbed)]
    if len(kinds) > 1:
        left_out |= {kind.truth: _why_blind(kind) for kind in probed if kind.num_blind}
    return Probed(
        reward=name,
        options=given,
        beside=beside,
        cases=cases,
        seed=seed,
        kinds=tuple(kind for kind in probed if kind.truth not in left_out),
        left_out=left_out,
    )


def pool_of(entries: Sequence[Mapping[str, Any]], *, num_workers: int, timeout: float = 10.0) -> RewardPool:
    """What judges by these entries; a mistake in a name or an option reads the same with workers as without."""
    try:
        return RewardPool(FACTORY, {"entries": entries}, num_workers=num_workers, timeout=timeout)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("rewards: ")) from error


def check_values(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options of a built-in reward, names and values, with which it cannot score an honest answer."""
    if ":" in name:
        return
    pool = pool_of(_entries(name, options, None), num_workers=0)
    case = _drawn(_kinds(name, options, None)[0], "check", options)
    for stage in stages_of(name, options):
        [judged] = pool([_call(case, case.honest, stage, label=_label(name))])
        if judged.problem is not None:
            raise ValueError(judged.problem.removeprefix("raised ValueError: "))


Judge = Callable[[Sequence[tuple[Case, str]], Stage], tuple[list[float | None], str | None]]
"""Scores of answers at a stage of a run, up to the first problem, and the problem."""


class _Judge:
    """Scores answers one by one, so that a reward which hangs on every answer is given up after the first."""

    def __init__(self, pool: RewardPool, *, label: str, with_picture: bool) -> None:
        self._pool, self._label, self._with_picture = pool, label, with_picture
        self._pictures: dict[int, bytes] = {}

    def __call__(self, answers: Sequence[tuple[Case, str]], stage: Stage) -> tuple[list[float | None], str | None]:
        """Scores up to the first problem, and the problem."""
        values: list[float | None] = []
        for case, text in answers:
            [judged] = self._pool([_call(case, text, stage, label=self._label, picture=self._picture(case))])
            if judged.problem is not None:
                return values, judged.problem
            values.append(judged.value)
        return values, None

    def _picture(self, case: Case) -> bytes | None:
        if self._with_picture and id(case) not in self._pictures:
            self._pictures[id(case)] = _drawing(case)
        return self._pictures.get(id(case))


def probe_kind(
    kind: str,
    cases: Sequence[Case],
    judge: Judge,
    stages: Sequence[Stage],
    *,
    dresses: Collection[str] = tuple(DRESSES),
) -> KindProbed | str:
    """All attacks of one kind at every stage, or why there are none; answers wear one of these dresses."""
    dress, problem = _best_dress(cases, judge, stages[0], dresses)
    if problem is not None:
        return problem
    tried: list[StageProbed] = []
    attacks: dict[str, list[Attack]] = {}
    num_cases = num_blind = 0
    for stage in stages:
        hung = {name for name, same in attacks.items() if HUNG in (same[-1].problem or "")}
        found = _probe_stage(cases, judge, stage, dress, without=hung)
        if isinstance(found, str):
            return found
        summary, here, known, blind = found
        tried.append(summary)
        for attack in here:
            attacks.setdefault(attack.name, []).append(attack)
        num_cases, num_blind = max(num_cases, known), max(num_blind, blind)
    return KindProbed(
        truth=kind,
        dress=dress,
        stages=tuple(tried),
        num_cases=num_cases,
        num_blind=num_blind,
        attacks=tuple(_over_the_run(same) for same in attacks.values()),
    )


def _probe_stage(
    cases: Sequence[Case], judge: Judge, stage: Stage, dress: str, *, without: Collection[str]
) -> tuple[StageProbed, list[Attack], int, int] | str:
    """Attacks at one stage, and how many cases had an opinion and how many were blind; or why there are none.

    `without` are attacks on which the reward has hung before, and would again.
    """
    opening, closing = DRESSES[dress]
    right, problem = judge([(case, opening + case.right + closing) for case in cases], stage)
    honest, worse = judge([(case, opening + case.honest + closing) for case in cases], stage)
    if problem is not None or worse is not None:
        return problem or worse or ""
    both = [(case, *pair) for case, *pair in zip(cases, honest, right, strict=True) if None not in pair]
    known = [(case, value) for case, value, _ in both if value is not None]
    best = [value for _, _, value in both if value is not None]
    if not known:
        return "no opinion"
    answers = [dressed(case, dress) for case, _ in known]
    lowest = list(best)
    names = [name for name in answers[0] if name not in without]
    attacks = [_attack(name, known, [texts[name] for texts in answers], judge, stage, lowest) for name in names]
    empty = [a.median for a in attacks if a.name in WITHOUT_CONTENT and a.median is not None]
    summary = StageProbed(
        name=stage.name,
        right=statistics.median(best),
        honest=statistics.median(value for _, value in known),
        form=max(empty, default=None),
    )
    num_blind = sum(value <= low + CLOSE for value, low in zip(best, lowest, strict=True))
    return summary, attacks, len(known), num_blind


def _over_the_run(stages: Sequence[Attack]) -> Attack:
    """One attack over all stages: as it fared where it came closest, or passed the honest answer by most."""

    def passes(attack: Attack) -> tuple[bool, float]:
        margin = -math.inf if attack.worst is None or attack.honest is None else attack.worst - attack.honest
        return attack.problem is not None, margin

    return replace(
        max(stages, key=passes),
        num_judged=sum(attack.num_judged for attack in stages),
        num_failed=sum(attack.num_failed for attack in stages),
        num_exempt=sum(attack.num_exempt for attack in stages),
        wins_at=tuple(attack.stage for attack in stages if attack.failed),
    )


def _why_blind(kind: KindProbed) -> str:
    where = "" if kind.num_blind == kind.num_cases else f"in {kind.num_blind} of {kind.num_cases} cases "
    return f"{where}the right answer earns no more than any other"


def _best_dress(cases: Sequence[Case], judge: Judge, stage: Stage, dresses: Collection[str]) -> tuple[str, str | None]:
    """The dress in which honest answers earn most, the plainer of equals; or what goes wrong in every one."""
    totals: dict[str, float] = {}
    first: str | None = None
    for dress in dresses:
        opening, closing = DRESSES[dress]
        values, problem = judge([(case, opening + case.honest + closing) for case in cases[:DRESS_CASES]], stage)
        first = first or problem
        if problem is not None and HUNG in problem:
            return dress, problem
        if problem is None:
            totals[dress] = sum(value for value in values if value is not None)
    return (max(totals, key=lambda dress: totals[dress]), None) if totals else ("bare", first)


def _attack(
    name: str,
    known: Sequence[tuple[Case, float]],
    texts: Sequence[str],
    judge: Judge,
    stage: Stage,
    lowest: list[float],
) -> Attack:
    """One attack on all cases but those in which it is the truth; `lowest` keeps the lowest score of each case."""
    honest = [value for _, value in known]
    here = [i for i, (case, _) in enumerate(known) if not says_the_same(_undressed(texts[i]), case.right)]
    values, problem = judge([(known[i][0], texts[i]) for i in here], stage)
    scores = [(i, value) for i, value in zip(here, values, strict=False) if value is not None]
    for i, value in scores:
        lowest[i] = min(lowest[i], value)
    worst = max(scores, key=lambda score: score[1] - honest[score[0]], default=None)
    example = "" if worst is None else texts[worst[0]]
    return Attack(
        name=name,
        median=statistics.median(value for _, value in scores) if scores else None,
        worst=None if worst is None else worst[1],
        honest=None if worst is None else honest[worst[0]],
        example=_cut(texts[here[len(values)]] if problem is not None else example),
        num_judged=len(scores),
        num_failed=sum(value >= honest[i] - CLOSE for i, value in scores),
        num_exempt=len(known) - len(here),
        problem=problem,
        stage=stage.name,
    )


def _kinds(name: str, options: Mapping[str, Any], truth: str | None) -> list[str]:
    """The kinds of truth on which a reward is probed: the one given, the one declared, or all."""
    if truth is not None and truth not in KINDS:
        raise ValueError(f"truth is {truth!r}{did_you_mean(truth, KINDS)}")
    declared = KIND_OF.get(name)
    if name in SHAPING:
        by_template = name == "format" and options.get("pattern") is None
        declared = TEMPLATE_KINDS.get(str(options.get("template")), "boxes") if by_template else "boxes"
    only = truth or declared
    return list(KINDS) if only is None else [only]


def _entries(name: str, options: Mapping[str, Any], beside: str | None) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = [{"name": name, "options": dict(options)}]
    if beside is not None:
        tagged = name == "think_answer" or options.get("template") == "answer_tag"
        entries.append({"name": beside, "label": "beside", "options": {"span": "answer_tag"} if tagged else {}})
    return entries


def _drawn(kind: str, seed: str, options: Mapping[str, Any]) -> Case:
    space = options.get("space")
    return KINDS[kind](random.Random(f"{kind}/{seed}"), space if space in SPACES else "seen")


def _label(name: str) -> str:
    """Under which the options of a reward are set."""
    return name.rpartition(":")[2]


def _call(case: Case, text: str, stage: Stage, *, label: str, picture: bytes | None = None) -> Call:
    num_tokens = min(len(text) // CHARACTERS_PER_TOKEN + 1, TOO_MANY_TOKENS)
    context = RewardContext(
        truth=case.truth,
        prompt=case.prompt,
        image_size=case.image_size,
        seen_size=case.seen_size,
        max_tokens=MAX_TOKENS,
        progress=stage.progress,
    )
    return Call(
        completion=Completion(text=text, token_ids=(0,) * num_tokens),
        context=context,
        options={label: stage.options},
        picture=picture,
    )


def _drawing(case: Case) -> bytes:
    """The true boxes in the colours that their labels begin with, for rewards that look."""
    image = Image.new("RGB", case.image_size, "gray")
    pen = ImageDraw.Draw(image)
    for item in case.shown:
        pen.rectangle(item["box"], fill=item["label"].split()[0])
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _undressed(text: str) -> str:
    for opening, closing in DRESSES.values():
        if opening and text.startswith(opening) and text.endswith(closing):
            return text[len(opening) : len(text) - len(closing)]
    return text


def _cut(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[:limit]} ... ({len(text):,} characters)"
