import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline import records, signals
from sightline.records import (
    Completion,
    Group,
    Image,
    Label,
    Message,
    Pair,
    Prompt,
    Rank,
    RecordError,
    Reward,
    Span,
    group_from_dict,
    group_to_dict,
)

# Any text that a UTF-8 file can hold, line breaks and zero characters included.
texts = st.text(st.characters(codec="utf-8"), max_size=12)
some_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**40)
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
images = st.builds(Image, path=some_text) | st.builds(Image, data=st.binary(max_size=20))
messages = st.builds(
    Message,
    role=st.sampled_from(["system", "user", "assistant"]),
    content=st.lists(texts | images, max_size=3).map(tuple),
)
prompts = st.builds(
    Prompt,
    id=some_text,
    messages=st.lists(messages, min_size=1, max_size=3).map(tuple),
    task=st.none() | texts,
    truth=st.dictionaries(texts, plain_values, max_size=3),
    alternates=st.dictionaries(texts, images, max_size=2),
)
origin = {"source": st.none() | texts, "aspect": st.none() | texts, "time": st.none() | texts}


@st.composite
def completions(draw: st.DrawFn) -> Completion:
    tokens = draw(st.none() | st.lists(counts, max_size=4).map(tuple))
    logprobs = None if tokens is None else draw(st.none() | st.tuples(*[numbers for _ in tokens]))
    return Completion(
        text=draw(texts),
        token_ids=tokens,
        behaviour_logprobs=logprobs,
        finish_reason=draw(st.sampled_from([None, "stop", "length"])),
        sampling=draw(st.none() | st.dictionaries(texts, plain_values, max_size=2)),
        policy_step=draw(st.none() | counts),
        source=draw(st.none() | texts),
    )


@st.composite
def spans(draw: st.DrawFn, answers: tuple[Completion, ...]) -> Span:
    completion = draw(st.integers(0, len(answers) - 1))
    start = draw(st.integers(0, len(answers[completion].text)))
    end = draw(st.integers(start, len(answers[completion].text)))
    replacement = draw(st.none() | texts)
    return Span(completion=completion, start=start, end=end, replacement=replacement)


def signals_on(answers: tuple[Completion, ...]) -> st.SearchStrategy:
    index = st.integers(0, len(answers) - 1)
    kinds = [
        st.builds(Rank, ranks=st.tuples(*[counts for _ in answers]), **origin),
        st.builds(Label, completion=index, good=st.booleans(), **origin),
        st.builds(
            Reward,
            completion=index,
            value=numbers,
            parts=st.dictionaries(texts, numbers, max_size=2),
            **origin,
        ),
        spans(answers),
    ]
    if len(answers) > 1:
        two = st.permutations(range(len(answers)))
        pair = st.builds(Pair, chosen=st.just(0), rejected=st.just(1), margin=st.none() | numbers, **origin)
        kinds.append(
            st.tuples(pair, two, st.booleans()).map(
                lambda drawn: dataclasses.replace(drawn[0], chosen=drawn[1][0], rejected=drawn[1][1], tie=drawn[2])
            )
        )
    return st.lists(st.one_of(kinds), max_size=3).map(tuple)


@st.composite
def groups(draw: st.DrawFn) -> Group:
    answers = tuple(draw(st.lists(completions(), max_size=3)))
    found = draw(signals_on(answers)) if answers else ()
    return Group(prompt=draw(prompts), completions=answers, signals=found)


@settings(max_examples=150, deadline=None)
@given(groups())
def test_a_group_comes_back_from_its_line_as_it_was(group: Group) -> None:
    line = group.to_json()
    assert "\n" not in line
    assert Group.from_json(line) == group
    assert group_from_dict(group_to_dict(group)) == group


def row() -> dict:
    """One row in which every field is given."""
    origin = {"source": "person", "aspect": "faithfulness", "time": "2026-11-20T10:00:00Z"}
    return {
        "schema_version": 1,
        "prompt": {
            "id": "7",
            "task": "describe",
            "messages": [
                {"role": "system", "content": [{"text": "Be brief."}]},
                {"role": "user", "content": [{"image": {"path": "7.png"}}, {"text": "What is here?"}]},
            ],
            "truth": {"objects": [{"label": "red circle", "box": [4, 6, 20, 22]}]},
            "alternates": {"blank": {"base64": "aGVsbG8="}},
        },
        "completions": [
            {
                "text": "A red circle.",
                "token_ids": [5, 6],
                "behaviour_logprobs": [-0.5, -1.0],
                "finish_reason": "stop",
                "sampling": {"temperature": 1.0},
                "policy_step": 3,
                "source": "model",
            },
            {"text": "A red circle and a blue star."},
        ],
        "signals": [
            {"kind": "pair", "chosen": 0, "rejected": 1, "margin": 0.5, "tie": True, **origin},
            {"kind": "rank", "ranks": [0, 1], **origin},
            {"kind": "label", "completion": 0, "good": True, **origin},
            {"kind": "reward", "completion": 0, "value": 0.7, "parts": {"recall": 0.7}, **origin},
            {"kind": "span", "completion": 1, "start": 12, "end": 28, "replacement": "", **origin},
        ],
    }


def test_a_full_row_is_written_back_word_for_word() -> None:
    assert group_to_dict(group_from_dict(row())) == row()


def test_short_forms_are_read() -> None:
    short = {"prompt": {"id": "7", "messages": [{"role": "user", "content": "What is this?"}]}}
    assert group_from_dict(short).prompt.messages == (Message(role="user", content=("What is this?",)),)
    named = {"prompt": {"id": "7", "messages": [{"role": "user", "content": [{"image": "7.png"}]}]}}
    assert group_from_dict(named).prompt.images == (Image(path="7.png"),)


def test_images_are_in_reading_order() -> None:
    first, second, third = (Image(path=f"{i}.png") for i in range(3))
    prompt = Prompt(
        id="7",
        messages=(
            Message(role="user", content=(first, "left, then right", second)),
            Message(role="assistant", content=("Yes.",)),
            Message(role="user", content=("And this?", third)),
        ),
        alternates={"other": Image(path="other.png")},
    )
    assert prompt.images == (first, second, third)


REMOVE = object()
LONE_SURROGATE = "\ud800"
BAD_VALUES = [
    # path in the row, value that is put there, field that the error names
    ("schema_version", 2, "schema_version"),
    ("schema_version", True, "schema_version"),
    ("colour", 1, "row"),
    ("prompt", REMOVE, "prompt"),
    ("prompt", [], "prompt"),
    ("prompt.color", 1, "prompt"),
    ("prompt.id", REMOVE, "prompt.id"),
    ("prompt.id", 7, "prompt.id"),
    ("prompt.id", "", "prompt.id"),
    ("prompt.task", 7, "prompt.task"),
    ("prompt.messages", REMOVE, "prompt.messages"),
    ("prompt.messages", "What?", "prompt.messages"),
    ("prompt.messages.1", "What?", "prompt.messages[1]"),
    ("prompt.messages.1.name", "Ann", "prompt.messages[1]"),
    ("prompt.messages.1.role", REMOVE, "prompt.messages[1].role"),
    ("prompt.messages.1.role", "human", "prompt.messages[1].role"),
    ("prompt.messages.1.role", ["user"], "prompt.messages[1].role"),
    ("prompt.messages.1.content", REMOVE, "prompt.messages[1].content"),
    ("prompt.messages.1.content", 3, "prompt.messages[1].content"),
    ("prompt.messages.1.content.1", "What?", "prompt.messages[1].content[1]"),
    ("prompt.messages.1.content.1", {"text": "a", "image": "b"}, "prompt.messages[1].content[1]"),
    ("prompt.messages.1.content.1.text", None, "prompt.messages[1].content[1].text"),
    ("prompt.messages.1.content.1.text", LONE_SURROGATE, "prompt.messages[1].content[1].text"),
    ("prompt.messages.1.content.0.image", 3, "prompt.messages[1].content[0].image"),
    ("prompt.messages.1.content.0.image", {"url": "x"}, "prompt.messages[1].content[0].image"),
    ("prompt.messages.1.content.0.image.path", "", "prompt.messages[1].content[0].image.path"),
    ("prompt.messages.1.content.0.image.path", None, "prompt.messages[1].content[0].image.path"),
    ("prompt.messages.1.content.0.image", {"bytes": "x"}, "prompt.messages[1].content[0].image.bytes"),
    ("prompt.truth", [], "prompt.truth"),
    ("prompt.truth.size", math.inf, "prompt.truth.size"),
    ("prompt.truth.size", [0, {"x": math.nan}], "prompt.truth.size[1].x"),
    ("prompt.truth.name", LONE_SURROGATE, "prompt.truth.name"),
    ("prompt.alternates", [], "prompt.alternates"),
    ("prompt.alternates.blank", 3, "prompt.alternates.blank"),
    ("prompt.alternates.blank.base64", "a*b", "prompt.alternates.blank.base64"),
    ("prompt.alternates.blank.base64", "äöü", "prompt.alternates.blank.base64"),
    ("prompt.alternates.blank.base64", 7, "prompt.alternates.blank.base64"),
    ("completions", {}, "completions"),
    ("completions.0", "A red circle.", "completions[0]"),
    ("completions.0.answer", "A", "completions[0]"),
    ("completions.0.text", REMOVE, "completions[0].text"),
    ("completions.0.text", None, "completions[0].text"),
    ("completions.0.token_ids", 5, "completions[0].token_ids"),
    ("completions.0.token_ids.1", 6.5, "completions[0].token_ids[1]"),
    ("completions.0.token_ids.1", True, "completions[0].token_ids[1]"),
    ("completions.0.token_ids.1", -6, "completions[0].token_ids[1]"),
    ("completions.0.token_ids", REMOVE, "completions[0].behaviour_logprobs"),
    ("completions.0.behaviour_logprobs", [-0.5], "completions[0].behaviour_logprobs"),
    ("completions.0.behaviour_logprobs.1", -math.inf, "completions[0].behaviour_logprobs[1]"),
    ("completions.0.behaviour_logprobs.1", "x", "completions[0].behaviour_logprobs[1]"),
    ("completions.0.finish_reason", "end", "completions[0].finish_reason"),
    ("completions.0.sampling", 1, "completions[0].sampling"),
    ("completions.0.policy_step", 1.5, "completions[0].policy_step"),
    ("completions.0.source", 1, "completions[0].source"),
    ("signals", {}, "signals"),
    ("signals.0", 3, "signals[0]"),
    ("signals.0.kind", REMOVE, "signals[0].kind"),
    ("signals.0.kind", "vote", "signals[0].kind"),
    ("signals.0.kind", ["pair"], "signals[0].kind"),
    ("signals.0.winner", 1, "signals[0]"),
    ("signals.0.chosen", REMOVE, "signals[0].chosen"),
    ("signals.0.chosen", "0", "signals[0].chosen"),
    ("signals.0.chosen", True, "signals[0].chosen"),
    ("signals.0.chosen", 2, "signals[0].chosen"),
    ("signals.0.rejected", -1, "signals[0].rejected"),
    ("signals.0.rejected", 0, "signals[0].rejected"),
    ("signals.0.margin", "0.5", "signals[0].margin"),
    ("signals.0.margin", 10**400, "signals[0].margin"),
    ("signals.0.tie", 0, "signals[0].tie"),
    ("signals.0.tie", None, "signals[0].tie"),
    ("signals.0.source", 3, "signals[0].source"),
    ("signals.0.aspect", 3, "signals[0].aspect"),
    ("signals.0.time", 3, "signals[0].time"),
    ("signals.1.ranks", 0, "signals[1].ranks"),
    ("signals.1.ranks", [0], "signals[1].ranks"),
    ("signals.1.ranks.1", -1, "signals[1].ranks[1]"),
    ("signals.2.completion", 2, "signals[2].completion"),
    ("signals.2.good", 1, "signals[2].good"),
    ("signals.3.completion", 2, "signals[3].completion"),
    ("signals.3.value", None, "signals[3].value"),
    ("signals.3.value", math.nan, "signals[3].value"),
    ("signals.3.parts", [], "signals[3].parts"),
    ("signals.3.parts.recall", "0.7", "signals[3].parts.recall"),
    ("signals.4.completion", 2, "signals[4].completion"),
    ("signals.4.start", 29, "signals[4].end"),
    ("signals.4.end", 30, "signals[4].end"),
    ("signals.4.replacement", 3, "signals[4].replacement"),
]


def put(value: object, path: str, into: dict) -> dict:
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    place = into
    for key in parents:
        place = place[key]
    if value is REMOVE:
        del place[last]
    else:
        place[last] = value
    return into


@pytest.mark.parametrize(("path", "value", "where"), BAD_VALUES)
def test_an_error_names_its_field(path: str, value: object, where: str) -> None:
    with pytest.raises(RecordError) as caught:
        group_from_dict(put(value, path, row()))
    assert caught.value.where == where
    assert str(caught.value) == f"{where}: {caught.value.problem}; {caught.value.cure}"
    assert caught.value.problem
    assert caught.value.cure
    assert "\n" not in str(caught.value)


def every_field(value: object, path: str = "") -> list[str]:
    if isinstance(value, dict):
        inside = [every_field(item, f"{path}.{key}".strip(".")) for key, item in value.items()]
    elif isinstance(value, list):
        inside = [every_field(item, f"{path}.{i}") for i, item in enumerate(value)]
    else:
        inside = []
    return [path, *(field for fields in inside for field in fields)]


FREE = ("prompt.truth", "completions.0.sampling")  # there any named values will do


@pytest.mark.parametrize("path", [path for path in every_field(row()) if path and not path.startswith(FREE)])
def test_no_field_takes_a_value_of_the_wrong_shape(path: str) -> None:
    with pytest.raises(RecordError) as caught:
        group_from_dict(put({"?": [None]}, path, row()))
    assert caught.value.where.startswith(path.split(".")[0])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "is not JSON (Expecting value at column 1)"),
        ('{"prompt": ', "is not JSON (Expecting value at column 12)"),
        ('{"prompt": {}} {}', "is not JSON (Extra data at column 16)"),
        ('{"prompt": 1, "prompt": 2}', "has the key 'prompt' twice"),
        ('{"prompt": NaN}', "holds NaN, which is no JSON"),
        ('{"prompt": -Infinity}', "holds -Infinity, which is no JSON"),
        pytest.param('{"prompt": ' + "9" * 5000 + "}", "holds the whole number 99999", id="long number"),
        pytest.param("[" * 100_000, "is nested more than 100 deep", id="deep"),
        ("[]", "is [], not an object"),
        ("null", "is null, not an object"),
    ],
)
def test_a_line_that_is_no_row_is_refused(line: str, problem: str) -> None:
    with pytest.raises(RecordError) as caught:
        Group.from_json(line)
    assert caught.value.where == "row"
    assert problem in caught.value.problem


def test_long_values_are_shown_short() -> None:
    with pytest.raises(RecordError) as caught:
        group_from_dict(put("x" * 1000, "signals.0.margin", row()))
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("value", [math.nan, b"bytes", {1, 2}, LONE_SURROGATE])
def test_what_json_cannot_hold_is_refused_on_writing(value: object) -> None:
    question = Message(role="user", content=("?",))
    group = Group(prompt=Prompt(id="7", messages=(question,), truth={"value": value}))
    with pytest.raises(RecordError, match="prompt '7': cannot be written as JSON"):
        group.to_json()


def test_signals_are_held_to_the_answers_in_python_too() -> None:
    prompt = Prompt(id="7", messages=(Message(role="user", content=("?",)),))
    with pytest.raises(RecordError, match=r"signals\[0\]\.rejected: is 1 and there are 1 completions"):
        Group(prompt=prompt, completions=(Completion(text="a"),), signals=(Pair(chosen=0, rejected=1),))


def test_an_image_is_a_path_or_bytes() -> None:
    for wrong in ({}, {"path": "7.png", "data": b"x"}):
        with pytest.raises(RecordError, match="exactly one of path and data"):
            Image(**wrong)


def test_every_field_of_a_record_has_a_reader() -> None:
    tables = {Completion: records._COMPLETION, **dict(signals._KINDS.values())}
    for kind, readers in tables.items():
        assert set(readers) == {field.name for field in dataclasses.fields(kind)} - {"kind"}


def test_the_example_of_the_docstring_is_a_row() -> None:
    assert Group.__doc__ is not None
    example = json.loads(Group.__doc__[Group.__doc__.index("{") :])
    assert group_to_dict(group_from_dict(example)) == example
