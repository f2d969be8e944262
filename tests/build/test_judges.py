"""Groups judged over a real server by an oracle that knows the truth: signals, counts, stops, nothing asked twice."""

import io
import itertools
import json
import os
import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from PIL import Image as Pillow

from sightline.build.judge_summary import JudgeSummary
from sightline.build.judges import judge_groups, open_judge
from sightline.config.judge import JudgeRecipe
from sightline.data.files import read_groups, write_groups
from sightline.data.images import ImageStore
from sightline.journal import RunFailed
from sightline.progress import shown
from sightline.records import Group, Image, Message, Pair, RecordError, Reward
from sightline.rewards.kept_answers import FILE
from sightline.serving.contract import Answer, ChatRequest, Failure
from sightline.serving.misbehave import Misbehaviour
from tests.build.oracle import Oracle, described
from tests.serving.servers import MODEL, png, saying, serving

GROUPS = described(6)
CLOSED = "http://127.0.0.1:9/v1"
PAIRWISE = {"kind": "pairwise"}
TIED = {"kind": "pairwise", "on_disagreement": "tie"}


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(GROUPS)


@pytest.fixture(scope="module")
def url(oracle: Oracle) -> Iterator[str]:
    with serving(oracle.respond) as found:
        yield found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_groups(tmp_path / "groups.jsonl", GROUPS)
    return tmp_path / "groups.jsonl"


def recipe(folder: Path, url: str, protocol: dict[str, Any] = PAIRWISE, **more: Any) -> JudgeRecipe:
    judge = {"kind": "endpoint", "base_url": url, "model": MODEL, "backoff": 0.01, **more.pop("judge", {})}
    values = {"name": "oracle", "judge": judge, "protocol": protocol, "cache": str(folder / "cache"), **more}
    return JudgeRecipe.model_validate(values)


def judge(source: Path, given: JudgeRecipe, out: str = "out.jsonl") -> tuple[JudgeSummary, list[Group]]:
    target = source.with_name(out)
    found = judge_groups(source=source, judge=given, out=target, say=lambda line: None)
    return found, [group for _, group in read_groups(target)]


def test_pairs_of_a_judge_that_sees_agree_with_the_truth(source: Path, url: str):
    found, groups = judge(source, recipe(source.parent, url))
    assert (found.groups, found.failed, found.refused, found.malformed) == (6, 0, 0, {})
    assert found.questions == found.asked + found.kept == found.read
    assert found.requests == found.asked
    assert found.agreement["rules"].estimate == 1.0
    assert found.compared["rules"] == sum(signal.kind == "pair" for group in GROUPS for signal in group.signals)
    assert found.position_bias is not None
    assert found.position_bias.estimate == 0.5
    for before, after in zip(GROUPS, groups, strict=True):
        assert after.prompt == before.prompt
        assert after.signals[: len(before.signals)] == before.signals
        added = after.signals[len(before.signals) :]
        assert {(signal.source, signal.aspect) for signal in added} == {("oracle", "overall")}
        assert Pair(chosen=0, rejected=1, margin=1.0, source="oracle", aspect="overall") in added


def test_the_same_command_again_asks_nothing_and_writes_the_same(source: Path, url: str, oracle: Oracle):
    first, groups = judge(source, recipe(source.parent, url))
    num_answered = oracle.answered.total()
    again, same = judge(source, recipe(source.parent, url))
    assert same == groups
    assert (again.asked, again.requests, again.kept) == (0, 0, first.questions)
    assert (again.prompt_tokens, again.position_bias) == (first.prompt_tokens, first.position_bias)
    assert oracle.answered.total() == num_answered


def test_a_file_may_be_judged_in_place_and_earlier_signals_of_the_judge_are_replaced(source: Path, url: str):
    _, groups = judge(source, recipe(source.parent, url), "groups.jsonl")
    _, again = judge(source, recipe(source.parent, url), "groups.jsonl")
    assert groups == again
    _, other = judge(source, recipe(source.parent, url, name="second"), "groups.jsonl")
    assert all(len(after.signals) > len(before.signals) for before, after in zip(groups, other, strict=True))


def test_a_judge_that_favours_a_place_is_found_out(source: Path):
    with serving(Oracle(GROUPS, place=10.0).respond) as url:
        found, groups = judge(source, recipe(source.parent, url, self_agreement=0.0))
        assert found.position_bias is not None
        assert found.position_bias.estimate == 1.0
        assert (found.signals, found.left_out) == ({}, {"orders disagree": found.questions // 2})
        assert found.agreement == {}
        assert groups == GROUPS
        tied, _ = judge(source, recipe(source.parent, url, TIED, self_agreement=0.0))
    assert (tied.asked, tied.signals) == (0, {"pair": found.questions // 2})


@pytest.mark.parametrize(
    "protocol",
    [
        {"kind": "pointwise"},
        {"kind": "pointwise", "aspects": ["overall"]},
        {"kind": "critique"},
        {"kind": "claims"},
        {"kind": "claims", "split": "sentences"},
        {"kind": "claims", "split": "pattern", "pattern": r"\w+ (?:circle|square|triangle|star|cross|diamond)"},
    ],
)
def test_every_protocol_finds_the_invention(source: Path, url: str, protocol: dict[str, Any]):
    found, groups = judge(source, recipe(source.parent, url, protocol, self_agreement=1.0))
    assert found.malformed == {}
    assert found.self_agreement is not None
    assert found.self_agreement.estimate == 1.0
    assert found.agreement["rules"].estimate == 1.0
    for group in groups:
        values = {s.completion: s.value for s in group.signals if isinstance(s, Reward) and s.aspect == "overall"}
        assert values[0] > values[1]


def test_pointwise_writes_every_rating_and_their_mean(source: Path, url: str):
    _, groups = judge(source, recipe(source.parent, url, {"kind": "pointwise", "pairs": False}, self_agreement=0.0))
    rewards = [signal for signal in groups[0].signals if signal.source == "oracle"]
    aspects = ["helpfulness", "visual_faithfulness", "ethics", "overall"]
    assert [signal.aspect for signal in rewards] == aspects * len(groups[0].completions)


def test_errors_and_nonsense_are_counted_and_nothing_is_asked_twice(source: Path):
    oracle, how = Oracle(GROUPS), Misbehaviour(errors=0.2, malformed=0.2, refusals=0.2, retry_after=0.01)
    with serving(oracle.respond, how=how) as url:
        found, _ = judge(source, recipe(source.parent, url, judge={"retries": 20}))
        again, _ = judge(source, recipe(source.parent, url))
    assert found.failed == 0
    assert found.requests is not None
    assert found.retries == found.requests - found.asked > 0
    assert found.refused > 0
    assert found.read == oracle.answered.total() == len(oracle.answered)
    assert found.read + found.refused + sum(found.malformed.values()) == found.questions
    assert set(found.malformed) <= {"no verdict", "empty"}
    assert (again.asked, again.read, again.malformed) == (0, found.read, found.malformed)


def test_questions_without_a_reply_are_asked_by_the_same_command_and_nothing_else(source: Path):
    down = [True]
    oracle = Oracle(GROUPS)

    def respond(requests: Sequence[ChatRequest]) -> list[Answer | Failure]:
        given = oracle.respond(requests)
        texts = [str(request.messages[-1].content[-1]).encode() for request in requests]
        picky = [crc32(text) % 5 == 0 and down[0] for text in texts]
        return [Failure(status=500, message="no") if bad else one for bad, one in zip(picky, given, strict=True)]

    with serving(respond) as url:
        given = recipe(source.parent, url, judge={"retries": 0})
        found, partly = judge(source, given)
        assert found.failed > 0
        assert found.last_problem == f"{url} answers 500 (no)"
        assert found.left_out["incomplete"] > 0
        down[0] = False
        again, groups = judge(source, given)
    assert (again.failed, again.asked, again.kept) == (0, found.failed, found.questions - found.failed)
    assert sum(len(group.signals) for group in groups) > sum(len(group.signals) for group in partly)


def test_tokens_are_counted_and_cost_what_the_recipe_says(source: Path, url: str):
    given = recipe(source.parent, url, judge={"price": {"input": 2.0, "output": 10.0}})
    found, _ = judge(source, given)
    assert found.prompt_tokens > 1000
    assert found.cost == pytest.approx((2 * found.prompt_tokens + 10 * found.completion_tokens) / 1e6)
    assert found.cost_now == found.cost
    again, _ = judge(source, given)
    assert (again.cost, again.cost_now) == (found.cost, 0.0)
    assert judge(source, recipe(source.parent, url))[0].cost is None


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("I can't help with that.", 'replies decline to judge, such as "I can\'t help with that."; ask another model'),
        (
            "Nice picture!",
            r"none of \d+ replies could be read \(\d+ no verdict\), such as 'Nice picture!'; ask a model",
        ),
        (
            Failure(status=400, message="bad"),
            r"questions got no reply, the last because .* answers 400 \(bad\); mend it",
        ),
    ],
)
def test_a_judge_of_no_use_is_given_up_early(source: Path, said: str | Failure, says: str):
    num_asked: list[int] = []

    def speak(request: ChatRequest) -> str | Failure:
        num_asked.append(1)
        return said

    with serving(saying(speak)) as url, pytest.raises(RunFailed, match=f"^judge oracle: .*{says}"):
        judge(source, recipe(source.parent, url))
    assert len(num_asked) < 30
    assert not source.with_name("out.jsonl").exists()


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_keeps_what_arrives_and_the_same_command_goes_on(source: Path):
    oracle = Oracle(GROUPS)
    heard: list[str] = []

    def respond(requests: Sequence[ChatRequest]) -> list[Answer | Failure]:
        if len(oracle.answered) > 8 and not heard:
            heard.append("interrupted")
            os.kill(os.getpid(), signal.SIGINT)
        return [replace(one, seconds=0.02) for one in oracle.respond(requests)]

    with serving(respond) as url:
        given = recipe(source.parent, url, judge={"concurrency": 3})
        with pytest.raises(KeyboardInterrupt):
            judge_groups(source=source, judge=given, out=source.with_name("out.jsonl"), say=heard.append)
        kept = len((source.parent / "cache" / FILE).read_text().splitlines())
        assert kept == len(oracle.answered)
        assert heard[1].startswith("stopping: replies in flight are waited for")
        assert heard[-1] == "stopped; every reply is kept. Go on with the same command"
        assert not source.with_name("out.jsonl").exists()
        found, _ = judge(source, given)
    assert (found.kept, found.failed) == (kept, 0)
    assert set(oracle.answered.values()) == {1}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_wrong_is_found_before_anything_is_asked(source: Path):
    given = recipe(source.parent, CLOSED)
    (source.parent / "other.jsonl").write_text(GROUPS[0].to_json() + "\n")
    with pytest.raises(ValueError, match=r"other.jsonl is there already and holds other things; give a new name"):
        judge(source, given, "other.jsonl")
    missing = replace(GROUPS[0].prompt, messages=(Message(role="user", content=(Image(path="no.png"), "What?")),))
    write_groups(source, [GROUPS[1], replace(GROUPS[0], prompt=missing)])
    with pytest.raises(RecordError, match=r"groups.jsonl:2: image 'no.png'.*cannot be found below .*check the path"):
        judge(source, given)
    write_groups(source, [replace(group, completions=group.completions[:1], signals=()) for group in GROUPS])
    with pytest.raises(ValueError, match="holds no group with two answers to compare; add answers"):
        judge(source, given)
    source.write_text("")
    with pytest.raises(ValueError, match="holds no group with an answer to judge"):
        judge(source, recipe(source.parent, CLOSED, {"kind": "claims"}))


def test_pictures_are_read_below_the_root_and_sent_in_a_form_that_endpoints_take(source: Path):
    held = io.BytesIO()
    Pillow.new("RGB", (6, 5), "red").save(held, "BMP")
    (source.parent / "a.bmp").write_bytes(held.getvalue())
    (source.parent / "b.png").write_bytes(png(3))
    content = (Image(path="a.bmp"), Image(path="b.png"), "Which is red?")
    prompt = replace(GROUPS[0].prompt, messages=(Message(role="user", content=content),))
    write_groups(source, [replace(GROUPS[0], prompt=prompt)])
    seen: list[ChatRequest] = []

    def speak(request: ChatRequest) -> str:
        seen.append(request)
        return "Verdict: tie"

    with serving(saying(speak)) as url:
        found, [group] = judge(source, recipe(source.parent, url))
    assert found.signals["pair"] > 0
    assert group.prompt == prompt  # the record keeps its paths
    first, second, text = seen[0].messages[0].content
    assert isinstance(first, Image)
    assert ImageStore(None).open(first).size == (6, 5)
    assert first.data is not None
    assert first.data.startswith(b"\x89PNG")
    assert second == Image(data=png(3))
    assert "[picture 1] [picture 2] Which is red?" in str(text)


def test_the_same_judge_gives_scores_as_rewards_do(source: Path, url: str):
    given = recipe(source.parent, url, {"kind": "claims", "score": "rejected"})
    with open_judge(given, say=lambda line: None) as opened:
        prompts = [group.prompt for group in GROUPS[:3]]
        answers = [[completion.text for completion in group.completions] for group in GROUPS[:3]]
        found = opened.scores(prompts, answers)
        assert [len(scores) for scores in found] == [len(texts) for texts in answers]
        for exact, invented, *rest in found:
            assert exact is not None
            assert invented is not None
            assert (exact.value, invented.value) == (0.0, -1.0)
            assert invented.parts["rejected"] == 1
            assert rest in ([], [None])  # "There is something." claims nothing that could be checked
        asked = opened.summary().asked
        opened.scores(prompts, answers)
        assert opened.summary().asked == asked
    with (
        open_judge(recipe(source.parent, url), say=lambda line: None) as opened,
        pytest.raises(ValueError, match="no scores"),
    ):
        opened.scores(prompts, answers)


def test_parquet_is_judged_like_jsonl(source: Path, url: str):
    write_groups(source.with_name("groups.parquet"), GROUPS[:3])
    found, groups = judge(source.with_name("groups.parquet"), recipe(source.parent, url), "out.parquet")
    assert found.groups == len(groups) == 3
    assert found.agreement["rules"].estimate == 1.0


def test_how_far_it_is_is_told_on_the_way(source: Path, url: str):
    said: list[str] = []
    told, clock = io.StringIO(), itertools.count(0, 10)
    given = recipe(source.parent, url)
    with shown(to=told, clock=lambda: next(clock), beat=0):
        judge_groups(source=source, judge=given, out=source.with_name("out.jsonl"), say=said.append)
    assert re.search(r"^judging, group 0 of 6, 2 replies; \d+:\d\d so far$", told.getvalue(), re.M)
    assert re.search(r"^judging, group 3 of 6, \d+ replies; \d+:\d\d so far, \d+:\d\d left$", told.getvalue(), re.M)
    judge_groups(source=source, judge=given, out=source.with_name("out.jsonl"), say=said.append)
    assert "replies; what they answer is not asked again" in said[0]


def test_every_reply_can_be_looked_up_with_what_was_asked(source: Path, url: str):
    found, _ = judge(source, recipe(source.parent, url))
    rows = [json.loads(line) for line in (source.parent / "cache" / FILE).read_text().splitlines()]
    assert len(rows) == found.asked
    assert all("Verdict:" in row["text"] and row["asked"]["messages"] for row in rows)
