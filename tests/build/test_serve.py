"""A model behind the server: the client gets what the model says, batch or no batch."""

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from sightline.build.serve import model_responder
from sightline.models.sampler import SamplingParams, sample
from sightline.records import Image, Message, Prompt
from sightline.serving.contract import Answer, ChatRequest, Failure
from sightline.serving.wire import Limits
from tests.serving.servers import MODEL, serving
from tests.tiny import png, tiny_inputs, tiny_loaded, tiny_policy

LOADED = tiny_loaded()
INPUTS = tiny_inputs(LOADED)
POLICY = tiny_policy(LOADED)


def messages(text: str, *pictures: bytes) -> tuple[Message, ...]:
    return (Message(role="user", content=(*(Image(data=data) for data in pictures), text)),)


def says(text: str, *pictures: bytes, max_tokens: int = 8) -> str:
    """What the sampler says greedily."""
    prompt = INPUTS.prompt(Prompt(id="x", messages=messages(text, *pictures)))
    params = SamplingParams(temperature=0.0, max_tokens=max_tokens)
    return INPUTS.text(sample(POLICY, [prompt], num=1, params=params, ends=INPUTS.ends)[0][0].token_ids)


def test_requests_of_all_kinds_in_one_batch_get_their_own_answers():
    respond = model_responder(POLICY, INPUTS, max_batch=2)
    requests = [
        ChatRequest(messages=messages("red", png(1)), max_tokens=8, temperature=0.0),
        ChatRequest(messages=messages("blue"), max_tokens=5, temperature=0.0),
        ChatRequest(messages=messages("an <image> as text"), max_tokens=8),
        ChatRequest(messages=messages("red", png(2)), max_tokens=8, temperature=0.0),
        ChatRequest(messages=messages("green", png(1), png(2)), max_tokens=8, temperature=0.0),
        ChatRequest(messages=messages("red", png(1)), max_tokens=8, temperature=1.0, seed=3, num=3),
    ]
    found = respond(requests)
    texts = [one.choices[0].text if isinstance(one, Answer) else None for one in found]
    assert texts[:2] == [says("red", png(1)), says("blue", max_tokens=5)]
    assert texts[3:5] == [says("red", png(2)), says("green", png(1), png(2))]
    assert isinstance(found[2], Failure)
    assert found[2].status == 400
    drawn = found[5]
    assert isinstance(drawn, Answer)
    assert len(drawn.choices) == 3
    assert len({choice.text for choice in drawn.choices}) > 1
    assert respond([requests[5]]) == [drawn]  # its seed, not its company, decides


def test_answers_without_a_seed_differ():
    respond = model_responder(POLICY, INPUTS)
    request = ChatRequest(messages=messages("red"), max_tokens=8)
    texts = {one.choices[0].text for one in respond([request] * 6) if isinstance(one, Answer)}
    assert len(texts) > 1


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    respond = model_responder(POLICY, INPUTS)
    with (
        serving(respond, limits=Limits(max_tokens=20)) as url,
        openai.OpenAI(base_url=url, api_key="any", max_retries=0) as found,
    ):
        yield found


def create(client: openai.OpenAI, content: object, **options):
    asked = {"model": MODEL, "temperature": 0, "max_tokens": 8} | options
    return client.chat.completions.create(messages=[{"role": "user", "content": content}], **asked)


def test_the_client_gets_the_models_words_about_a_picture(client: openai.OpenAI):
    url = f"data:image/png;base64,{base64.b64encode(png(5)).decode()}"
    found = create(client, [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is it?"}])
    assert found.choices[0].message.content == says("What is it?", png(5))
    assert found.choices[0].finish_reason in ("stop", "length")
    assert found.usage.prompt_tokens > 4


def test_log_probabilities_are_those_of_the_tokens(client: openai.OpenAI):
    found = create(client, "What is it?", logprobs=True).choices[0]
    assert "".join(part.token for part in found.logprobs.content) == found.message.content
    assert all(part.logprob <= 0 for part in found.logprobs.content)


def test_an_answer_ends_before_a_stop_text(client: openai.OpenAI):
    whole = create(client, "What is it?", max_tokens=12).choices[0].message.content
    stop = whole[len(whole) // 2 :][:2]
    found = create(client, "What is it?", max_tokens=12, stop=stop).choices[0]
    assert found.message.content == whole[: whole.index(stop)]
    assert found.finish_reason == "stop"


def test_a_conversation_that_is_too_long_is_refused_by_its_code(client: openai.OpenAI):
    longest = LOADED.model.config.get_text_config().max_position_embeddings
    with pytest.raises(openai.BadRequestError, match="the model reads") as caught:
        create(client, "red " * longest)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.slow
@pytest.mark.usefixtures("hears_ctrl_c")
def test_the_command_serves_until_it_is_stopped(tmp_path: Path):
    command = [sys.executable, "-m", "sightline.cli", "serve", "world:base", "--port", "0", "--model-name", "tiny"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("serving tiny at http://127.0.0.1:")
            url = line.split()[3]
            with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as client:
                asked = [{"role": "user", "content": "How many shapes are there?"}]
                assert client.chat.completions.create(model="tiny", messages=asked, max_tokens=4).choices
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130
        finally:
            process.kill()
