"""The pieces of text that the tiny models' tokenizers know as one token; every other text falls back to bytes."""

import re

from sightline.world.scenes import CANVAS, COLOURS, SHAPES, SIZES, TEXTURES
from sightline.world.tasks import REFUSAL_TEXT

TEMPLATES = (
    "USER: ASSISTANT: Describe the picture. What shapes are in the picture? List what you see. There is a, an and.",
    "Locate every shape and output the boxes as JSON. Locate the leftmost rightmost shape right of the",
    "output its box as JSON. How many shapes are there? Is there a? yes no",
    "What number is on the sign? Read out the number in the picture.",
    REFUSAL_TEXT,
    " ".join((*COLOURS, *SHAPES, *(f"{shape}s" for shape in SHAPES), "crosses", *TEXTURES, *SIZES)),
)
JSON_PIECES = ('[{"bbox_2d": ', ', {"bbox_2d": ', '], "label": "', '"}', '"}]', "[]")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %} ASSISTANT: {% elif message['role'] == 'user' %}USER: {% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}</s>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT: {% endif %}"
)


def pieces() -> tuple[str, ...]:
    """All multi-character pieces, in a fixed order, without repeats."""
    words = [word for line in TEMPLATES for word in re.findall(r"[A-Za-z]+", line)]
    found = ["USER: ", " ASSISTANT: ", *JSON_PIECES]
    found += [form for word in words for form in (word, f" {word}")]
    found += [f"[{i}" for i in range(CANVAS + 1)] + [f", {i}" for i in range(CANVAS + 1)]
    return tuple(dict.fromkeys(piece for piece in found if len(piece) > 1))


def words() -> tuple[str, ...]:
    """The pieces that are words, alone and after a space: what the contrastive model reads."""
    return tuple(piece for piece in pieces() if piece.strip().isalpha())
