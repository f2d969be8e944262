"""Conversations answered in process: company changes nothing, stops and limits are kept."""

from dataclasses import replace

from sightline.models.chat import Chat, Chatted, chat
from sightline.models.sampler import SamplingParams, sample
from sightline.records import Image, Message, Prompt
from tests.tiny import png, tiny_inputs, tiny_loaded, tiny_policy

LOADED = tiny_loaded()
INPUTS = tiny_inputs(LOADED)
POLICY = tiny_policy(LOADED)
LONGEST = LOADED.model.config.get_text_config().max_position_embeddings


def asked(text: str, *, num: int = 1, **options) -> Chat:
    content = (Image(data=png(len(text))), text)
    params = SamplingParams(**({"temperature": 0.0, "max_tokens": 8} | options))
    return Chat(messages=(Message(role="user", content=content),), params=params, num=num, with_logprobs=True)


def answered(chats: list[Chat], batch_size: int = 32) -> list[Chatted]:
    found = dict(one for some in chat(POLICY, INPUTS, chats, batch_size=batch_size) for one in some)
    return [found[number] for number in range(len(chats))]


def texts(found: list[Chatted]) -> list[list[str]]:
    """Log-probabilities left out, which rounding moves."""
    return [[reply.text for reply in one.replies] for one in found]


def test_replies_are_those_of_the_sampler():
    one = asked("red circle")
    prompt = INPUTS.prompt(Prompt(id="0", messages=one.messages))
    [[said]] = sample(POLICY, [prompt], num=1, params=one.params, ends=INPUTS.ends)
    [found] = answered([one])
    assert found.replies[0].text == INPUTS.text(said.token_ids)
    assert found.replies[0].num_tokens == len(said.token_ids)
    assert found.num_prompt_tokens == len(prompt.ids)
    values = iter(said.logprobs)  # a token that shows nothing has none of its own in the reply
    assert all(value in values for _, value in found.replies[0].logprobs)


def test_company_and_batch_size_change_nothing():
    chats = [
        asked("red"),
        asked("blue circle", temperature=1.0, seed=3, num=2),
        asked("green", max_tokens=3),
        asked("red"),
    ]
    chats += [asked("blue circle", temperature=1.0, seed=seed) for seed in range(3)]
    together = answered(chats)
    assert texts(answered(chats, batch_size=1)) == texts(together)
    assert texts([answered([one])[0] for one in chats]) == texts(together)
    assert together[0] == together[3]
    assert len(together[1].replies) == 2
    assert len({found.replies[0].text for found in together[4:]}) == 3


def test_what_shares_settings_shares_a_batch_whatever_its_seed():
    chats = [asked(str(seed), temperature=1.0, seed=seed) for seed in range(4)]
    assert [len(some) for some in chat(POLICY, INPUTS, chats)] == [4]
    assert [len(some) for some in chat(POLICY, INPUTS, [*chats, asked("x", max_tokens=3)], batch_size=3)] == [3, 1, 1]


def test_a_reply_ends_before_the_first_stop_text_and_so_do_its_log_probabilities():
    whole = answered([asked("red circle", max_tokens=12)])[0].replies[0]
    tokens = [text for text, _ in whole.logprobs]
    assert "".join(tokens) == whole.text
    stop = tokens[2]
    found = answered([asked("red circle", max_tokens=12, stop=("never said", stop))])[0].replies[0]
    assert found.text == whole.text[: whole.text.index(stop)]
    assert found.finish_reason == "stop"
    assert [text for text, _ in found.logprobs] == tokens[: len(found.logprobs)]


def test_what_cannot_be_read_is_a_problem_of_its_own():
    begun = asked("what?")
    begun = replace(begun, messages=(*begun.messages, Message(role="assistant", content=("a red",))))
    found = answered([asked("an <image> as text"), asked("fine"), asked("red " * LONGEST), begun])
    assert [one.problem is None for one in found] == [False, True, False, False]
    assert "the assistant's own" in (found[3].problem or "")
    assert found[2].problem is not None
    assert found[2].problem.endswith(f"the model reads {LONGEST}; shorten it, or lower max_tokens")


def test_a_limit_that_nobody_named_is_lowered_to_what_fits():
    one = asked("red", max_tokens=LONGEST)
    assert answered([one])[0].problem is not None
    free = Chat(messages=one.messages, params=SamplingParams(temperature=0.0, max_tokens=LONGEST), may_shorten=True)
    [found] = answered([free])
    assert found.problem is None
    assert found.num_prompt_tokens + found.replies[0].num_tokens <= LONGEST
