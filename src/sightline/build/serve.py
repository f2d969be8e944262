"""A run or model behind an OpenAI-compatible HTTP server."""

import secrets
from collections.abc import Sequence

from sightline.build.loading import inputs_of, load_trained, make_inputs
from sightline.models.chat import Chat, Chatted, chat
from sightline.models.forward import Policy
from sightline.models.inputs import Inputs
from sightline.models.reading import reading_policy
from sightline.models.sampler import SamplingParams
from sightline.progress import Say, say
from sightline.serving.app import listen, make_app, make_server
from sightline.serving.contract import Answer, ChatRequest, Choice, Failure, Respond
from sightline.serving.misbehave import Misbehaviour, misbehaving
from sightline.serving.wire import Limits

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    *,
    target: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    model_name: str | None = None,
    max_batch: int = 32,
    max_tokens: int = 1024,
    misbehave: Misbehaviour | None = None,
    say: Say = say,
) -> None:
    """Serve until Ctrl-C; `misbehave` spoils answers, for tests of clients."""
    with listen(host, port) as door:  # before the model is loaded: a taken port is told at once
        loaded, recipe = load_trained(target)
        inputs = make_inputs(loaded) if recipe is None else inputs_of(recipe, loaded)
        policy = reading_policy(loaded, keep_batch=max_batch)
        respond = model_responder(policy, inputs, max_batch=max_batch)
        name = model_name or target
        app = make_app(
            respond if misbehave is None else misbehaving(respond, misbehave),
            model=name,
            limits=Limits(max_tokens=max_tokens),
            max_batch=max_batch,
        )
        if host not in LOOPBACK:
            say(f"{host} can be reached from other machines, and no key is asked for")
        shown = f"[{host}]" if ":" in host else host
        say(f"serving {name} at http://{shown}:{door.getsockname()[1]}/v1 (Ctrl-C stops)")
        make_server(app).run(sockets=[door])


def model_responder(policy: Policy, inputs: Inputs, *, max_batch: int = 32) -> Respond:
    """Answers of a model; requests that are sampled alike share a batch."""

    def respond(requests: Sequence[ChatRequest]) -> list[Answer | Failure]:
        found: dict[int, Answer | Failure] = {}
        for some in chat(policy, inputs, [_chat(request) for request in requests], batch_size=max_batch):
            found |= {number: _answer(chatted) for number, chatted in some}
        return [found[number] for number in range(len(requests))]

    return respond


def _chat(request: ChatRequest) -> Chat:
    params = SamplingParams(
        temperature=request.temperature,
        max_tokens=request.max_tokens,
        seed=secrets.randbits(63) if request.seed is None else request.seed,
        stop=request.stop,
        top_p=request.top_p,
    )
    return Chat(
        messages=request.messages,
        params=params,
        num=request.num,
        with_logprobs=request.with_logprobs,
        may_shorten=request.may_shorten,
    )


def _answer(found: Chatted) -> Answer | Failure:
    if found.problem is not None:
        code = "context_length_exceeded" if "the model reads" in found.problem else None
        return Failure(status=400, message=f"messages: {found.problem}", param="messages", code=code)
    return Answer(
        choices=tuple(
            Choice(text=said.text, finish_reason=said.finish_reason, logprobs=said.logprobs) for said in found.replies
        ),
        prompt_tokens=found.num_prompt_tokens,
        completion_tokens=sum(said.num_tokens for said in found.replies),
    )
