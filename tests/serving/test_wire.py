"""Requests as JSON: what is read, and what is refused by name."""

import base64
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image as Pillow

from sightline.records import Image, Message
from sightline.serving.contract import Answer, ChatRequest, Choice, Failure
from sightline.serving.wire import BadRequest, Limits, chunks, completion, error_body, read_request
from tests.serving.servers import png

LIMITS = Limits(max_tokens=50, max_images=2, max_image_bytes=10_000, max_image_pixels=400, max_choices=3)
HELLO = [{"role": "user", "content": "Hello"}]


def read(row: Any):
    body = row if isinstance(row, bytes) else json.dumps(row).encode()
    return read_request(body, model="m", limits=LIMITS)


def url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def seeing(*urls: object) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": one, "detail": "low"}} for one in urls]
    return {"model": "m", "messages": [{"role": "user", "content": [*parts, {"type": "text", "text": "What?"}]}]}


def request(text: str, **more: object) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def test_a_whole_request_is_read():
    found = read(
        {
            "model": "m", "max_completion_tokens": 7, "n": 2, "temperature": 0, "top_p": 0.5, "stop": "END", "seed": 3,
            "logprobs": True, "stream": True, "stream_options": {"include_usage": True}, "user": "me", "tools": [],
            "frequency_penalty": 0, "response_format": {"type": "text"}, "logit_bias": None,
            "messages": [
                {"role": "developer", "content": "Be brief."},
                *seeing(url(png(1)))["messages"],
                {"role": "assistant", "content": "A cat."},
                {"role": "user", "content": [{"type": "text", "text": "Sure?"}]},
            ],
        }
    )  # fmt: skip
    assert found.request == ChatRequest(
        messages=(
            Message(role="system", content=("Be brief.",)),
            Message(role="user", content=(Image(data=png(1)), "What?")),
            Message(role="assistant", content=("A cat.",)),
            Message(role="user", content=("Sure?",)),
        ),
        max_tokens=7,
        num=2,
        temperature=0.0,
        top_p=0.5,
        stop=("END",),
        seed=3,
        with_logprobs=True,
    )
    assert (found.stream, found.with_usage) == (True, True)


def test_a_short_request_gets_the_defaults_of_the_protocol():
    found = read({"model": "m", "messages": HELLO})
    assert found.request == ChatRequest(
        messages=(Message(role="user", content=("Hello",)),), max_tokens=50, may_shorten=True
    )
    assert (found.request.temperature, found.request.num, found.stream) == (1.0, 1, False)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (b"{", "the body is not JSON"),
        (b"[" * 100_000, "the body is nested more than 100 deep"),
        (b"\xff", "the body is not UTF-8"),
        (b'{"model": "\\ud800"}', "the body holds half of a surrogate pair"),
        (b'{"model": "m", "n": ' + b"9" * 400 + b"}", "the body holds the whole number 999.*; write none beyond"),
        (b"[" + b"[]," * 5_000_000 + b"[]]", "the body holds more than 4,000,000 values"),
        ([], "not a JSON object"),
        ({"model": "m"}, "messages is no list of 1 to 256"),
        ({"model": "m", "messages": []}, "messages is no list"),
        ({"model": "m", "messages": ["Hello"]}, r"messages\[0\].role is none of system, developer, user, assistant"),
        ({"model": "m", "messages": [{"role": "tool", "content": "x"}]}, r"messages\[0\].role is none of"),
        ({"model": "m", "messages": [{"role": ["user"], "content": "x"}]}, r"messages\[0\].role is none of"),
        ({"model": "m", "messages": [{"role": "user"}]}, r"messages\[0\].content is neither text nor a list"),
        ({"model": "m", "messages": [{"role": "user", "content": []}]}, "is neither text nor a list"),
        ({"model": "m", "messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "no part of type text"),
        ({"model": "m", "messages": [{"role": "assistant", "content": "x"}]}, "the last message is not the user's"),
        ({"model": "m", "messages": HELLO, "tools": [{}]}, "tools is not offered here"),
        ({"model": "m", "messages": HELLO, "top_logprobs": 5}, "top_logprobs is not offered here"),
        ({"model": "m", "messages": HELLO, "response_format": {"type": "json_object"}}, "response_format is not"),
        ({"model": "m", "messages": HELLO, "temprature": 1}, "unknown field 'temprature'; did you mean temperature?"),
        ({"model": "m", "messages": HELLO, "temperature": 3}, "temperature is 3; give a number from 0 to 2"),
        ({"model": "m", "messages": HELLO, "temperature": True}, "temperature is true"),
        (b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}', "the body holds NaN"),
        ({"model": "m", "messages": HELLO, "top_p": 0}, "top_p is 0"),
        ({"model": "m", "messages": HELLO, "n": 4}, "n is 4; give a whole number from 1 to 3"),
        ({"model": "m", "messages": HELLO, "max_tokens": 51}, "max_tokens is 51; give a whole number from 1 to 50"),
        ({"model": "m", "messages": HELLO, "max_tokens": "7"}, "max_tokens is '7'"),
        ({"model": "m", "messages": HELLO, "seed": 1.5}, "seed is 1.5"),
        ({"model": "m", "messages": HELLO, "stop": [""]}, "stop is no text or list of up to four"),
        ({"model": "m", "messages": HELLO, "stop": list("abcde")}, "stop is no text or list of up to four"),
        ({"model": "m", "messages": HELLO, "stream": 1}, "stream is 1; give true or false"),
        ({"model": "m", "messages": HELLO * 300}, "messages is no list of 1 to 256"),
        (seeing("https://example.org/cat.png"), "is an address, and this server fetches none"),
        (seeing("file:///etc/passwd"), "is an address, and this server fetches none"),
        (seeing(None), "has no url"),
        (seeing("data:image/png,abc"), "is no data: URL in base64"),
        (seeing("data:image/png;base64,%%%"), "is no data: URL in base64"),
        (seeing(url(b"no picture")), "the image is not an image that is read here"),
        (seeing(url(png(1)[:-20])), "the image is broken"),
        (seeing(url(b"x" * 10_001)), "the image has 10001 bytes, more than 10000"),
        (seeing(url(png(1)), url(png(2)), url(png(3))), "messages holds more than 2 images"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_with_the_cure(row: Any, says: str):
    with pytest.raises(BadRequest, match=says) as caught:
        read(row)
    assert caught.value.failure.status == 400


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded():
    held = io.BytesIO()
    Pillow.new("L", (40, 40)).save(held, "PNG")
    with pytest.raises(BadRequest, match="has 1600 pixels"):
        read(seeing(url(held.getvalue())))


def test_another_model_does_not_exist():
    with pytest.raises(BadRequest, match="the model 'x' does not exist; this server has m") as caught:
        read({"model": "x", "messages": HELLO})
    assert (caught.value.failure.status, caught.value.failure.code) == (404, "model_not_found")


def test_the_type_of_a_picture_is_its_bytes_and_not_what_the_url_says():
    assert read(seeing(url(png(1), "image/jpeg"))).request.messages[0].content[0] == Image(data=png(1))


def test_an_answer_as_one_object_and_as_events():
    answer = Answer(
        choices=(
            Choice(text="a red cat", logprobs=(("a", -0.5), (" red cat", -1.0))),
            Choice(text="half of ", finish_reason="length"),
        ),
        prompt_tokens=5,
        completion_tokens=4,
    )
    row: Any = completion(answer, name="x", created=1, model="m")
    assert [choice["message"]["content"] for choice in row["choices"]] == ["a red cat", "half of "]
    assert [choice["finish_reason"] for choice in row["choices"]] == ["stop", "length"]
    assert [part["logprob"] for part in row["choices"][0]["logprobs"]["content"]] == [-0.5, -1.0]
    assert row["choices"][1]["logprobs"] is None
    assert row["usage"] == {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
    events = list(chunks(answer, name="x", created=1, model="m", with_usage=True))
    assert all(event.startswith("data: ") and event.endswith("\n\n") for event in events)
    assert events[-1] == "data: [DONE]\n\n"
    rows = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    assert rows[-1]["usage"]["total_tokens"] == 9
    told = ["", ""]
    for row in rows[:-1]:
        [choice] = row["choices"]
        told[choice["index"]] += choice["delta"].get("content", "")
    assert told == ["a red cat", "half of "]
    assert [row["choices"][0]["finish_reason"] for row in rows[:-1] if row["choices"][0]["finish_reason"]] == [
        "stop",
        "length",
    ]
    assert len(list(chunks(answer, name="x", created=1, model="m", with_usage=False))) == len(events) - 1


def test_failures_are_worded_as_by_openai():
    kinds = {400: "invalid_request_error", 404: "invalid_request_error", 429: "rate_limit_error", 500: "server_error"}
    for status, kind in kinds.items():
        row = error_body(Failure(status=status, message="why", param="n", code="c"))
        assert row == {"error": {"message": "why", "type": kind, "param": "n", "code": "c"}}


@pytest.mark.parametrize(
    "row",
    [
        {"model": "x" * 10_000_000}, {"model": "m", "x" * 10_000_000: 1}, {"model": "m", "\u0007\u1234" * 99: 1},
        request("x", n="x" * 10_000_000), request("x", temperature=["x" * 1000] * 1000),
        request("x", stop="x" * 10_000_000), request("x" * 10_000_000),
        request("x", n=10**18), request("x", seed={"a": {"b": [1] * 10_000}}),
    ],
    ids=lambda row: "",
)  # fmt: skip
def test_what_is_refused_is_quoted_short_and_in_plain_characters(row: dict[str, Any]):
    with pytest.raises(BadRequest) as caught:
        read_request(json.dumps(row).encode(), model="m", limits=LIMITS)
    told = json.dumps(error_body(caught.value.failure))
    assert len(told) < 500
    assert caught.value.failure.message.isascii()
    assert caught.value.failure.message.isprintable()


def test_a_conversation_holds_so_many_pixels_and_characters():
    limits = replace(LIMITS, max_request_pixels=20, max_text=10)
    with pytest.raises(BadRequest, match="messages holds more than 20 pixels; send smaller images"):
        read_request(json.dumps(seeing(url(png(1)), url(png(2)))).encode(), model="m", limits=limits)
    read_request(json.dumps(seeing(url(png(1)))).encode(), model="m", limits=limits)
    with pytest.raises(BadRequest, match="messages holds more than 10 characters"):
        read_request(json.dumps(request("x" * 10)).encode(), model="m", limits=limits)


def test_a_picture_of_a_thousand_scans_is_refused():
    held = io.BytesIO()
    Pillow.new("L", (8, 8)).save(held, "JPEG", progressive=True)
    data = held.getvalue()
    last = data.rindex(b"\xff\xda")
    scans = data[:last] + data[last:-2] * 1000 + data[-2:]
    with pytest.raises(BadRequest, match="the image is a JPEG of 64 pixels in more than 64 scans; save it again"):
        read_request(json.dumps(seeing(url(scans))).encode(), model="m", limits=replace(LIMITS, max_image_bytes=10**6))
