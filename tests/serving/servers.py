"""Real servers on the loopback address, each in a thread, for as long as a test needs them."""

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from PIL import Image as Pillow
from starlette.applications import Starlette

from sightline.serving.app import listen, make_app, make_server
from sightline.serving.contract import Answer, ChatRequest, Choice, Failure, Respond
from sightline.serving.door import Patience
from sightline.serving.misbehave import Misbehaviour, misbehaving
from sightline.serving.wire import Limits

MODEL = "scripted"


@contextmanager
def running(app: Starlette, *, port: int = 0, patience: Patience | None = None) -> Iterator[str]:
    """The base URL of an application that is being served."""
    with listen("127.0.0.1", port) as door:
        server = make_server(app, patience=patience)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            thread.join(timeout=10)
            assert not thread.is_alive()


@contextmanager
def serving(
    respond: Respond, *, how: Misbehaviour | None = None, limits: Limits | None = None, max_batch: int = 32
) -> Iterator[str]:
    """The base URL of our own server over a responder, spoilt if `how` says so."""
    spoilt = respond if how is None else misbehaving(respond, how)
    with running(make_app(spoilt, model=MODEL, limits=limits, max_batch=max_batch)) as url:
        yield url


def saying(speak: Callable[[ChatRequest], str | Answer | Failure]) -> Respond:
    """A responder that answers each request by itself."""

    def respond(requests: Sequence[ChatRequest]) -> list[Answer | Failure]:
        return [_answer(speak(request), request) for request in requests]

    return respond


def png(shade: int) -> bytes:
    """A picture file of one grey."""
    held = io.BytesIO()
    Pillow.new("L", (4, 4), shade).save(held, "PNG")
    return held.getvalue()


def text_of(request: ChatRequest) -> str:
    """The text of the last message."""
    return "".join(part for part in request.messages[-1].content if isinstance(part, str))


def _answer(said: str | Answer | Failure, request: ChatRequest) -> Answer | Failure:
    if not isinstance(said, str):
        return said
    num_words = len(text_of(request).split())
    choices = (Choice(text=said),) * request.num
    return Answer(choices=choices, prompt_tokens=num_words, completion_tokens=len(said.split()) * request.num)
