"""The server over real HTTP, asked by the openai client as a user would, and by hand where a client would not."""

import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence

import openai
import pytest

from sightline.serving import app as app_module
from sightline.serving.app import listen
from sightline.serving.contract import Answer, ChatRequest, Choice, Failure
from sightline.serving.misbehave import Misbehaviour
from sightline.serving.wire import Limits, Wanted, read_request
from tests.serving.servers import MODEL, saying, serving, text_of

HELLO = [{"role": "user", "content": "Hello"}]
sizes: list[int] = []


def respond(requests: Sequence[ChatRequest]) -> list[Answer | Failure]:
    sizes.append(len(requests))
    if any(text_of(request) == "raise" for request in requests):
        raise RuntimeError("the model burst")

    def speak(request: ChatRequest) -> str | Answer | Failure:
        if text_of(request) == "fail":
            return Failure(status=429, message="slowly", retry_after=1.5)
        if text_of(request) == "slow":
            return Answer(choices=(Choice(text="at last"),), seconds=0.2)
        return f"you said {text_of(request)}"

    return saying(speak)(requests)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(respond, limits=Limits(max_body_bytes=5000), max_batch=8) as found:
        yield found


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as found:
        yield found


def post(url: str, body: bytes, **headers: str) -> tuple[int, dict]:
    request = urllib.request.Request(f"{url}/chat/completions", body, {"content-type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_completion_of_several_choices_with_usage(client: openai.OpenAI):
    found = client.chat.completions.create(model=MODEL, messages=HELLO, n=2, max_tokens=5)
    assert [choice.message.content for choice in found.choices] == ["you said Hello"] * 2
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (1, 6)
    assert found.model == MODEL


def test_a_stream_gives_the_same_text(client: openai.OpenAI):
    events = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    assert "".join(event.choices[0].delta.content or "" for event in events) == "you said Hello"


def test_models_and_health(client: openai.OpenAI, url: str):
    assert [model.id for model in client.models.list().data] == [MODEL]
    with urllib.request.urlopen(url.replace("/v1", "/health"), timeout=5) as response:
        assert json.load(response) == {"status": "ok", "model": MODEL}


def test_errors_have_the_classes_that_the_client_knows(client: openai.OpenAI):
    create = client.chat.completions.create
    with pytest.raises(openai.NotFoundError, match="this server has scripted"):
        create(model="x", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="temperature is 9"):
        create(model=MODEL, messages=HELLO, temperature=9)
    with pytest.raises(openai.RateLimitError, match="slowly") as caught:
        create(model=MODEL, messages=[{"role": "user", "content": "fail"}])
    assert caught.value.response.headers["retry-after"] == "2"
    assert caught.value.response.headers["retry-after-ms"] == "1500"


def test_a_responder_that_raises_costs_one_answer_and_not_the_server(client: openai.OpenAI, caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(openai.InternalServerError, match=r"failed \(RuntimeError\)"):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "raise"}])
    assert "the model burst" in caplog.text
    assert client.chat.completions.create(model=MODEL, messages=HELLO).choices[0].message.content


def test_requests_that_arrive_together_share_a_batch_of_bounded_size(client: openai.OpenAI):
    sizes.clear()
    said: dict[int, str | None] = {}

    def ask(number: int) -> None:
        messages = [{"role": "user", "content": f"{number}"}]
        said[number] = client.chat.completions.create(model=MODEL, messages=messages).choices[0].message.content

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {number: f"you said {number}" for number in range(40)}
    assert sum(sizes) == 40
    assert 1 < max(sizes) <= 8


def test_a_slow_answer_holds_nobody_else_up(client: openai.OpenAI):
    done: list[str] = []

    def ask(text: str) -> None:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}])
        done.append(text)

    slow = threading.Thread(target=ask, args=("slow",))
    slow.start()
    ask("quick")
    slow.join()
    assert done == ["quick", "slow"]


def test_what_is_no_request_is_refused(url: str):
    assert post(url, b"{")[0] == 400
    status, row = post(url, json.dumps({"model": MODEL, "messages": HELLO, "user": "x" * 6000}).encode())
    assert (status, row["error"]["message"]) == (413, "the request has more than 5000 bytes; send less")
    status, row = post(url, b"{}", **{"content-type": "text/plain"})
    assert (status, row["error"]["type"]) == (415, "invalid_request_error")
    status, row = post(url.replace("/v1", ""), b"{}")
    assert status == 404
    assert row["error"]["message"].startswith("there is no POST /chat/completions here; POST /v1/chat/completions")
    with pytest.raises(urllib.error.HTTPError, match="405") as caught:
        urllib.request.urlopen(f"{url}/chat/completions", timeout=5)
    caught.value.close()


def test_pictures_that_take_long_are_given_up_and_hold_up_nobody(monkeypatch: pytest.MonkeyPatch):
    go_on = threading.Event()

    def opening(body: bytes, **given: object) -> Wanted:
        if b"picture" in body:
            assert go_on.wait(20)
        return read_request(body, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(app_module, "read_request", opening)
    with serving(respond, limits=Limits(reading_seconds=0.3)) as url:
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "picture"}]}).encode()
        assert post(url, body)[0] == 408
        assert post(url, body.replace(b"picture", b"text"))[0] == 200
        go_on.set()


def test_a_broken_answer_is_half_a_text():
    with (
        serving(saying(text_of), how=Misbehaviour(broken=1.0)) as url,
        openai.OpenAI(base_url=url, api_key="any", max_retries=0) as client,
        pytest.raises(json.JSONDecodeError),
    ):
        client.chat.completions.create(model=MODEL, messages=HELLO)


def test_an_address_that_is_taken_or_none_is_refused_with_the_cure():
    with listen("127.0.0.1", 0) as door:
        port = door.getsockname()[1]
        with pytest.raises(
            ValueError, match=f"127.0.0.1:{port} cannot be listened on .it is taken.; give another --port"
        ):
            listen("127.0.0.1", port)
    with pytest.raises(ValueError, match="cannot be listened on"):
        listen("no such host", 0)
    with pytest.raises(ValueError, match="cannot be listened on"):
        listen("127.0.0.1", 70_000)
