"""The tiny tokenizer: what the world says is known whole, everything else falls back to bytes."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from sightline.models.tiny import SPECIALS, TinyShape, make_processor, make_tokenizer
from sightline.world.prompts import task_prompts
from sightline.world.scenes import SPLITS
from sightline.world.stages import STAGES, lessons, taught_answer
from sightline.world.tasks import TASKS, make_question
from sightline.world.vocabulary import CHAT_TEMPLATE, pieces, words

SINGLE = set(".,?I0123456789")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer(pieces())


def test_pieces_are_distinct_and_longer_than_a_character():
    assert len(set(pieces())) == len(pieces())
    assert all(len(piece) > 1 for piece in pieces())


def test_the_vocabulary_that_the_shipped_weights_use_has_not_changed(tokenizer):
    assert len(tokenizer) == len(SPECIALS) + 256 + len(pieces()) == 536


def test_the_words_of_the_contrastive_model_are_the_pieces_that_descriptions_need():
    assert set(words()) < set(pieces())
    assert {"There", " is", " a", " an", " red", " circle", " striped", " small", " and"} <= set(words())
    assert not any(set(word) & set('0123456789"[]{}:,') for word in words())


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task", TASKS)
def test_questions_and_exact_answers_are_known_pieces_and_round_trip(tokenizer, task: str, split: str):
    known = {*pieces(), *SINGLE}
    for index in range(60):
        question = make_question(task, split, index)
        for text in (question.text, question.answer):
            ids = tokenizer(text).input_ids
            assert tokenizer.decode(ids) == text
            assert {tokenizer.decode([token]) for token in ids} <= known, text


def test_badly_taught_answers_are_known_pieces_too(tokenizer):
    known, stage = {*pieces(), *SINGLE}, STAGES[-1]
    rng = np.random.default_rng(0)
    questions = [
        q for index in range(100) for q in lessons(stage, make_question("count", "train", index).scene, seed=0)
    ]
    for text in (taught_answer(question, stage.habits, rng) for question in questions):
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids) == text
        assert {tokenizer.decode([token]) for token in ids} <= known, text


@pytest.mark.parametrize("task", TASKS)
def test_answers_leave_room_below_the_tasks_longest(tokenizer, task: str):
    longest = max(
        len(tokenizer(make_question(task, split, index).answer).input_ids) + 1
        for split in SPLITS
        for index in range(60)
    )
    assert longest <= 2 / 3 * TASKS[task].max_tokens


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_round_trips(tokenizer, text: str):
    assume(not any(special in text for special in SPECIALS))
    assert tokenizer.decode(tokenizer(text).input_ids) == text


@pytest.mark.parametrize(
    "text", ["", " ", "  a\t\n", "ünïcödé 🙂", "\x00\x7f", "[12, 3", "redcircle", '{"bbox_2d"', "<imag"]
)
def test_odd_texts_round_trip(tokenizer, text: str):
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_chat_template_puts_the_image_where_it_stands_and_asks_for_the_answer():
    processor = make_processor(pieces(), CHAT_TEMPLATE, TinyShape())
    (prompt,) = task_prompts("exist", "test", 1)
    text = prompt.messages[0].content[1]
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
    rendered = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert rendered == f"USER: <image>\n{text} ASSISTANT: "
    turns += [{"role": "assistant", "content": "yes"}, {"role": "user", "content": "Sure?"}]
    rendered = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert rendered == f"USER: <image>\n{text} ASSISTANT: yes</s>USER: Sure? ASSISTANT: "
