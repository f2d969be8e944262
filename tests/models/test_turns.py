"""What a chat template writes around an answer, and where one ends: for every family's shape, and for odd ones."""

import copy
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast

from sightline.models.processor import ImageTextProcessor
from sightline.models.turns import turns_of
from sightline.records import Completion, Message, Prompt
from tests.families import IM_END, ROWS, family_loaded, family_prompt
from tests.tiny import tiny_inputs, tiny_processor

WRITTEN = {
    "llava-clip": (" ", "</s>"),
    "llava-siglip": (" ", "</s>"),
    "llava-onevision": ("", IM_END),
    "qwen2-vl": ("", IM_END),
    "qwen2.5-vl": ("", IM_END),
    "qwen3-vl": ("", IM_END),
    "idefics3": (" ", "<end_of_utterance>"),
    "smolvlm": (" ", "<end_of_utterance>"),
    "gemma3": ("", "<end_of_turn>"),
    "internvl": ("", IM_END),
    "paligemma": ("", "</s>"),
}
"""What stands before an answer's text, and the token that ends it."""
TEXTS = ("Yes.", "Yes", "a red circle, and\na blue one", "2", "s", "<b>", "said: yes", "\u00e9\u4e2d")


def conversations(name: str) -> list[Prompt]:
    shown, plain = family_prompt(name, 0, 1), family_prompt(name)
    first = plain.messages[0]
    longer = (first, Message(role="assistant", content=("Two.",)), Message(role="user", content=("And now?",)))
    return [shown, plain, Prompt(id="longer", messages=longer)]


@pytest.mark.parametrize("name", ROWS)
def test_an_answer_is_the_rendered_conversation_less_the_rendered_prompt(name: str):
    inputs = tiny_inputs(family_loaded(name))
    tokenizer, (before, end) = inputs.processor.tokenizer, WRITTEN[name]
    for prompt in conversations(name):
        for text in TEXTS:
            *ids, last = inputs.answer(Completion(text=text))
            whole, asked = inputs.render(prompt, answer=text), inputs.render(prompt)
            assert tokenizer.convert_ids_to_tokens(last) == end
            if inputs.turns.opening is None:
                behind = whole.removeprefix(asked)
                assert behind != whole
                assert tokenizer.decode(ids) == (behind.partition(end)[0] if end in behind else before + text)
            else:
                assert tokenizer.decode(ids) == text
            assert tokenizer(asked + before + text, add_special_tokens=False).input_ids[-len(ids) :] == list(ids)


@pytest.mark.parametrize("name", ROWS)
def test_the_text_of_an_answers_tokens_is_the_answer(name: str):
    inputs = tiny_inputs(family_loaded(name))
    for text in TEXTS:
        ids = inputs.answer(Completion(text=text))
        assert inputs.text(ids) == inputs.text(ids[:-1]) == text
        ends = inputs.text_ends(ids)
        assert ends == sorted(ends)
        assert ends[-1] == len(text)
        bare = tuple(inputs.processor.tokenizer(text, add_special_tokens=False).input_ids)
        assert inputs.text(bare) == text  # a model that leaves the space out has said the same


@pytest.mark.parametrize("name", ROWS)
def test_all_end_tokens_of_a_checkpoint_end_an_answer_and_its_templates_one_is_learned(name: str):
    loaded = family_loaded(name)
    named = loaded.model.generation_config.eos_token_id
    named = named if isinstance(named, list) else [named]
    assert set(named) <= set(loaded.ends)
    assert loaded.processor.tokenizer.convert_ids_to_tokens(loaded.ends[0]) == WRITTEN[name][1]


def test_where_a_template_opens_a_turn_otherwise_than_a_prompt_the_answer_is_its_text():
    assert tiny_inputs(family_loaded("llava-onevision")).turns.opening == ("\n", " \n")
    others = [name for name in ROWS if name != "llava-onevision"]
    assert all(tiny_inputs(family_loaded(name)).turns.opening is None for name in others)


def with_template(template: str, **changes: Any) -> Any:
    processor = copy.copy(tiny_processor())
    processor.tokenizer = copy.deepcopy(processor.tokenizer)
    processor.chat_template = template
    for name, value in changes.items():
        setattr(processor.tokenizer, name, value)
    return processor


def test_a_tokenizer_that_puts_a_space_before_every_text_gets_one_space_alone():
    letters = "".join(chr(code) for code in range(33, 127))
    vocabulary = [("<unk>", 0.0), ("\u2581", -2.0), ("\u2581Yes", -1.0), ("Yes", -1.0), *((x, -3.0) for x in letters)]
    inner = Tokenizer(Unigram(vocabulary, unk_id=0))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    inner.decoder = decoders.Metaspace(prepend_scheme="always")
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content[0].text }}{% if m.role == 'assistant' %}</s>{% endif %} "
        "{% endfor %}"
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="</s>",
        chat_template=template + "{% if add_generation_prompt %}assistant:{% endif %}",
    )
    processor = ImageTextProcessor(tokenizer=tokenizer, image_processor=None, settings={})
    turns = turns_of(processor, named=[tokenizer.eos_token_id], media=[])
    assert tokenizer.convert_ids_to_tokens(list(turns.tokens("Yes"))) == ["\u2581Yes", "</s>"]
    assert turns.text(turns.tokens("Yes")) == "Yes"


PLAIN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content[0].text }}\n{% endfor %}"
    "{% if add_generation_prompt %}a: {% endif %}"
)
THINKING = (
    "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content[0].text }}</s>{% endfor %}{% if add_generation_prompt %}assistant: <think>\n{% endif %}"
)


def test_what_a_template_adds_to_an_answer_is_learned_and_not_shown():
    turns = turns_of(with_template(THINKING), named=[2], media=[3])
    assert (turns.before, turns.ends) == ("\n</think>\n\n", (2,))
    assert turns.written("red") == "\n</think>\n\nred"
    assert turns.text(turns.tokens("red circle")) == "red circle"
    assert turns.text(turns.tokens("red")[:3]) == ""


def test_a_template_that_writes_no_end_gets_the_checkpoints():
    turns = turns_of(with_template(PLAIN), named=[], media=[3])
    assert turns.ends == (2,)
    assert turns_of(with_template(PLAIN), named=[7, 5], media=[3]).ends == (7, 5)
    assert turns_of(with_template(PLAIN), named=[7, 2], media=[3]).ends == (2, 7)


def test_an_answer_that_could_never_end_is_refused():
    with pytest.raises(ValueError, match="names no end token and its chat template writes none"):
        turns_of(with_template(PLAIN, eos_token=None), named=[], media=[3])


def test_a_template_that_takes_no_answer_is_refused_with_its_own_words():
    template = "{% for m in messages if m.role == 'assistant' %}{{ raise_exception('users alone') }}{% endfor %}"
    with pytest.raises(ValueError, match=r"cannot write a question and its answer \(users alone\)"):
        turns_of(with_template(template), named=[2], media=[3])
