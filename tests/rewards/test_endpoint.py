"""Endpoints over real HTTP: what is sent, what is tried again, what stops everything, and how it is told."""

import asyncio
import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from sightline.journal import RunFailed
from sightline.records import Image, Message
from sightline.rewards.ask import Question, Reply
from sightline.rewards.endpoint import Endpoint, EndpointSettings, media_type, read_response
from sightline.rewards.endpoint_trouble import EndpointError
from sightline.serving.contract import Answer, ChatRequest, Choice, Failure
from sightline.serving.misbehave import Misbehaviour
from sightline.serving.wire import Limits
from tests.serving.servers import MODEL, png, running, saying, serving, text_of

QUICK = EndpointSettings(base_url="", model=MODEL, backoff=0.01, timeout=5.0)
CLOSED = "http://127.0.0.1:9/v1"


def question(text: str, *pictures: bytes, **options: object) -> Question:
    content = (*(Image(data=data) for data in pictures), text)
    return replace(Question(messages=(Message(role="user", content=content),), max_tokens=9), **options)


def replies(endpoint: Endpoint, questions: list[Question]) -> list[Reply]:
    with closing(endpoint):
        found = dict(one for some in endpoint(questions) for one in some)
    return [found[number] for number in range(len(questions))]


Respond = Callable[[Request], Awaitable[Response]]


@dataclass(slots=True)
class Desk:
    """One server for the whole file, which a test tells what to answer."""

    url: str
    respond: Respond

    def gives(self, *answers: Response, seen: list[dict] | None = None) -> str:
        """These responses whatever is asked, the last one again and again; gives the base URL."""
        left = list(answers)

        async def respond(request: Request) -> Response:
            if seen is not None:
                seen.append({"headers": dict(request.headers), "body": await request.json()})
            return left.pop(0) if len(left) > 1 else left[0]

        self.respond = respond
        return self.url


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    async def endpoint(request: Request) -> Response:
        return await found.respond(request)

    async def nothing(request: Request) -> Response:
        raise AssertionError("no test has said what to answer")

    with running(Starlette(routes=[Route("/{path:path}", endpoint, methods=["POST"])])) as url:
        found = Desk(url, nothing)
        yield found


def completion(text: str | None, **message: object) -> JSONResponse:
    return JSONResponse({"choices": [{"message": {"content": text, **message}, "finish_reason": "stop"}]})


def error(status: int, message: str, *, code: str | None = None, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "code": code}}, status_code=status, headers=headers)


def test_every_question_gets_its_own_reply_and_tokens_are_counted():
    with serving(saying(lambda request: f"about {text_of(request)}")) as url:
        endpoint = Endpoint(replace(QUICK, base_url=url, concurrency=4))
        found = replies(endpoint, [question(f"question {number}") for number in range(30)])
    assert [reply.text for reply in found] == [f"about question {number}" for number in range(30)]
    assert {(reply.prompt_tokens, reply.completion_tokens, reply.finished) for reply in found} == {(2, 3, True)}
    usage = endpoint.usage
    assert (usage.requests, usage.retries, usage.prompt_tokens, usage.completion_tokens) == (30, 0, 60, 90)


def test_a_question_is_sent_as_the_protocol_has_it(desk: Desk):
    seen: list[dict] = []
    url = desk.gives(completion("fine"), seen=seen)
    settings = replace(QUICK, base_url=url, extra={"top_k": 3}, token_limit="max_completion_tokens")
    pictures = (png(1), png(2))
    replies(Endpoint(settings, api_key="sk-secret"), [question("What?", *pictures, seed=4, temperature=0.5)])
    replies(Endpoint(replace(QUICK, base_url=url)), [question("What?", temperature=None)])
    body = seen[0]["body"]
    assert seen[0]["headers"]["authorization"] == "Bearer sk-secret"
    assert (body["model"], body["max_completion_tokens"], body["seed"]) == (MODEL, 9, 4)
    assert (body["temperature"], body["top_k"]) == (0.5, 3)
    assert "max_tokens" not in body
    [message] = body["messages"]
    assert [part["type"] for part in message["content"]] == ["image_url", "image_url", "text"]
    url = message["content"][1]["image_url"]["url"]
    assert url == f"data:image/png;base64,{base64.b64encode(png(2)).decode()}"
    plain = seen[1]["body"]
    assert plain["messages"] == [{"role": "user", "content": "What?"}]
    assert (plain["max_tokens"], "temperature" in plain, "seed" in plain) == (9, False, False)


def test_no_more_requests_are_in_flight_than_allowed(desk: Desk):
    flying: list[int] = [0]
    most: list[int] = []
    together = asyncio.Event()  # after the very first, which goes alone, three wait for each other

    async def respond(request: Request) -> Response:
        flying[0] += 1
        most.append(flying[0])
        if flying[0] == 3:
            together.set()
        if len(most) > 1:
            await asyncio.wait_for(together.wait(), 20)
        await asyncio.sleep(0.01)
        flying[0] -= 1
        return completion("fine")

    desk.respond = respond
    replies(Endpoint(replace(QUICK, base_url=desk.url, concurrency=3)), [question(str(n)) for n in range(20)])
    assert max(most) == 3


def test_requests_are_spaced_by_the_rate_limit():
    with serving(saying(lambda request: "fine")) as url:
        endpoint = Endpoint(replace(QUICK, base_url=url, concurrency=8, requests_per_minute=1200))
        began = time.monotonic()
        replies(endpoint, [question(str(number)) for number in range(11)])
    assert time.monotonic() - began >= 10 * 60 / 1200


def test_what_fails_for_a_while_is_tried_again():
    how = Misbehaviour(errors=0.3, broken=0.1, retry_after=0.01)
    with serving(saying(text_of), how=how) as url:
        endpoint = Endpoint(replace(QUICK, base_url=url, retries=20))
        found = replies(endpoint, [question(f"question {number}") for number in range(40)])
    assert [reply.text for reply in found] == [f"question {number}" for number in range(40)]
    assert endpoint.usage.retries == endpoint.usage.requests - 40 > 5


def test_after_all_retries_a_question_has_a_problem_and_the_others_their_replies():
    def speak(request: ChatRequest) -> str | Failure:
        return Failure(status=503, message="busy") if text_of(request) == "2" else "fine"

    with serving(saying(speak)) as url:
        endpoint = Endpoint(replace(QUICK, base_url=url, retries=2))
        found = replies(endpoint, [question(str(number)) for number in range(4)])
    assert [reply.text for reply in found] == ["fine", "fine", None, "fine"]
    assert found[2].problem == f"{url} answers 503 (busy)"
    assert (endpoint.usage.requests, endpoint.usage.retries) == (6, 2)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "0.3"}, 0.3),
        ({"retry-after-ms": "300", "retry-after": "60"}, 0.3),
        ({"retry-after": "soon"}, 0),
    ],
)
def test_retry_after_is_honoured(desk: Desk, headers: dict[str, str], seconds: float):
    url = desk.gives(completion("first"), error(429, "slowly", headers=headers), completion("fine"))
    endpoint = Endpoint(replace(QUICK, base_url=url, concurrency=1))
    began = time.monotonic()
    assert replies(endpoint, [question("a"), question("b")])[1].text == "fine"
    assert time.monotonic() - began >= seconds


def test_one_who_asks_for_too_long_a_wait_is_not_waited_for(desk: Desk):
    url = desk.gives(completion("first"), error(429, "tomorrow", headers={"retry-after": "86400"}))
    found = replies(Endpoint(replace(QUICK, base_url=url)), [question("a"), question("b")])
    assert found[1].problem == f"{url} answers 429 (tomorrow)"


def test_a_slow_answer_times_out_and_is_tried_again(desk: Desk):
    seconds = iter([0.0, 1.0, 0.0])

    async def respond(request: Request) -> Response:
        await asyncio.sleep(next(seconds))
        return completion("fine")

    desk.respond = respond
    endpoint = Endpoint(replace(QUICK, base_url=desk.url, timeout=0.4))
    assert [reply.text for reply in replies(endpoint, [question("a"), question("b")])] == ["fine", "fine"]
    assert endpoint.usage.retries == 1


def test_a_wrong_request_is_not_tried_again_and_costs_no_other(desk: Desk):
    url = desk.gives(completion("fine"), error(400, "the prompt is too long"), completion("fine"))
    endpoint = Endpoint(replace(QUICK, base_url=url, concurrency=1))
    found = replies(endpoint, [question(str(number)) for number in range(3)])
    assert [reply.text for reply in found] == ["fine", None, "fine"]
    assert found[1].problem == f"{url} answers 400 (the prompt is too long)"
    assert endpoint.usage.requests == 3


def test_a_content_filter_is_a_refusal(desk: Desk):
    filtered = error(400, "management policy", code="content_filter")
    late = JSONResponse({"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]})
    url = desk.gives(filtered, completion(None, refusal="I won't."), late)
    found = replies(Endpoint(replace(QUICK, base_url=url, concurrency=1)), [question(str(n)) for n in range(3)])
    assert [reply.refused for reply in found] == [True, True, True]
    assert [reply.text for reply in found] == [None, "I won't.", ""]


# What stops everything, in one sentence with the cure


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (
            error(401, "Incorrect API key provided: sk-secret."),
            r"401 \(Incorrect API key provided: \*\*\*\); set judge.api",
        ),
        (error(403, "no"), r"answers 403 \(no\); set judge.api_key_env"),
        (error(404, "Not Found"), r"404 \(Not Found\); correct judge.base_url$"),
        (error(404, "The model `x` does not exist"), "correct judge.model, which is 'scripted'"),
        (error(402, "pay first"), "no credit left: the same command goes on"),
        (error(429, "You exceeded your current quota", code="insufficient_quota"), "has no credit left"),
        (error(400, "Use 'max_completion_tokens' instead"), "set judge.token_limit to max_completion_tokens"),
        (error(400, "temperature does not support 0.0"), "set temperature to null"),
        (error(400, "This model does not support image input."), "'scripted' seems to take no pictures: name one that"),
        (error(500, "image input is not supported"), "seems to take no pictures"),
        (
            JSONResponse({"detail": [{"msg": "Input should be a valid string"}]}, status_code=422),
            "seems to take no pictures",
        ),
        (HTMLResponse("<html>Welcome!</html>"), "something that is no chat completion; check judge.base_url"),
        (HTMLResponse("<html>Nothing here</html>", status_code=404), r"404 \(Nothing here\); correct judge.base_url"),
    ],
)
def test_what_no_further_request_can_mend_stops_at_once(desk: Desk, response: Response, says: str):
    url = desk.gives(response)
    endpoint = Endpoint(replace(QUICK, base_url=url), api_key="sk-secret")
    with pytest.raises(EndpointError, match=says) as caught:
        replies(endpoint, [question(str(number), png(1)) for number in range(5)])
    assert endpoint.usage.requests <= 3
    assert "sk-secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_address_where_nobody_is_costs_little_time():
    endpoint = Endpoint(replace(QUICK, base_url=CLOSED))
    with pytest.raises(EndpointError, match=r"cannot be reached \(.*refused\); check judge.base_url"):
        replies(endpoint, [question("a"), question("b")])
    assert endpoint.usage.requests == 3
    with pytest.raises(EndpointError, match="cannot be reached"):
        replies(Endpoint(replace(QUICK, base_url=CLOSED, retries=0)), [question("a")])


def test_pictures_that_come_later_may_be_what_is_not_taken(desk: Desk):
    url = desk.gives(completion("fine"), error(400, "image_url is not supported"))
    endpoint = Endpoint(replace(QUICK, base_url=url, concurrency=1))
    with pytest.raises(EndpointError, match="seems to take no pictures"):
        replies(endpoint, [question("text alone"), question("with a picture", png(1)), question("more", png(1))])


def test_one_bad_picture_among_good_ones_is_one_problem(desk: Desk):
    url = desk.gives(completion("fine"), error(400, "could not process image"), completion("fine"))
    endpoint = Endpoint(replace(QUICK, base_url=url, concurrency=1))
    found = replies(endpoint, [question(str(number), png(1)) for number in range(3)])
    assert [reply.text for reply in found] == ["fine", None, "fine"]


def test_an_endpoint_that_goes_down_ends_the_run(desk: Desk):
    url = desk.gives(completion("fine"), error(503, "maintenance"))
    endpoint = Endpoint(replace(QUICK, base_url=url, retries=1, concurrency=2))
    with pytest.raises(RunFailed, match=r"answers 503 .* for 8 questions in a row; when it is up again"):
        replies(endpoint, [question(str(number)) for number in range(100)])
    assert endpoint.usage.requests < 30


def test_a_stop_waits_for_what_is_in_flight_and_hands_it_over():
    stop = threading.Event()
    answered: Counter[str] = Counter()

    def speak(request: ChatRequest) -> Answer:
        answered[text_of(request)] += 1
        if len(answered) == 10:
            stop.set()
        return Answer(choices=(Choice(text="fine"),), seconds=0.1)

    arrived: dict[int, Reply] = {}
    with serving(saying(speak)) as url:
        endpoint = Endpoint(replace(QUICK, base_url=url, concurrency=3), stop=stop.is_set)

        def collect() -> None:
            for some in endpoint([question(str(number)) for number in range(500)]):
                arrived.update(some)

        with closing(endpoint), pytest.raises(KeyboardInterrupt):
            collect()
    assert {str(number) for number in arrived} == set(answered)
    assert len(answered) < 30


def test_a_request_that_is_too_large_is_told():
    with serving(saying(lambda request: "fine"), limits=Limits(max_body_bytes=2000)) as url:
        found = replies(Endpoint(replace(QUICK, base_url=url)), [question("a"), question("b" * 3000)])
    assert found[1].problem == f"{url} answers 413 (the request has more than 2000 bytes; send less)"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{}]}', b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": 3}}]}', b'{"choices": {"0": 1}}', b"\xff\xfe", b"[" * 100_000,
        b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": -1}}',
        b'{"choices": [{"message": {"content": "x"}}], "usage": [1]}',
    ],
)  # fmt: skip
def test_what_is_no_chat_completion_is_no_reply(body: bytes):
    assert read_response(body) is None


def test_a_response_may_leave_out_what_is_not_needed():
    row = {"choices": [{"message": {"content": "x"}, "finish_reason": "length"}], "usage": None}
    assert read_response(json.dumps(row).encode()) == Reply(text="x", finished=False)
    assert read_response(b'{"choices": [{"message": {"content": null}}]}') == Reply(text=None)


def test_half_a_surrogate_pair_does_not_get_further():
    found = read_response(b'{"choices": [{"message": {"content": "a \\ud83d b"}}]}')
    assert found == Reply(text="a ? b")


def test_types_of_pictures_are_told_by_their_first_bytes():
    kinds = [media_type(start) for start in (b"\x89PNG..", b"\xff\xd8\xff..", b"GIF89a", b"RIFF....WEBP", b"BM..", b"")]
    assert kinds == ["image/png", "image/jpeg", "image/gif", "image/webp", None, None]
