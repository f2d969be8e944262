import torch

from sightline.models.tiny import make_model as make_tiny
from sightline.models.tiny import make_processor
from sightline.models.tiny_clip import ClipShape, make_clip, make_clip_processor, take_tower
from sightline.world.vocabulary import CHAT_TEMPLATE, pieces, words
from tests.tiny import SHAPE

SMALL = ClipShape(tower=SHAPE, text_width=16, text_mlp=32, text_layers=1, text_heads=2, text_length=16, width=8)


def test_the_default_has_one_to_two_million_parameters():
    shape = ClipShape()
    model = make_clip(make_clip_processor(words(), shape), shape, seed=0)
    assert 1_000_000 < sum(p.numel() for p in model.parameters()) < 2_000_000


def test_a_text_ends_with_the_end_token_at_which_it_is_read():
    processor = make_clip_processor(words(), SMALL)
    model = make_clip(processor, SMALL, seed=0).eval()
    tokens = processor.tokenizer(["a red circle", "a red circle, an"], padding=True, return_tensors="pt")
    ends = (tokens.input_ids == model.text_model.eos_token_id).int().argmax(1)
    assert ends.tolist() == (tokens.attention_mask.sum(1) - 1).tolist()
    with torch.no_grad():
        read = model.text_model(**tokens)
    torch.testing.assert_close(read.pooler_output, read.last_hidden_state[torch.arange(2), ends])


def test_the_tower_of_a_tiny_vlm_can_be_taken_over():
    source = make_tiny(make_processor(pieces(), CHAT_TEMPLATE, SHAPE), SHAPE, seed=3)
    model = make_clip(make_clip_processor(words(), SMALL), SMALL, seed=0)
    take_tower(model, source)
    pixels = torch.randn(1, 3, SHAPE.image_size, SHAPE.image_size)
    with torch.no_grad():
        theirs = source.model.vision_tower(pixels).last_hidden_state
        torch.testing.assert_close(model.vision_model(pixels).last_hidden_state, theirs)


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before():
    processor = make_clip_processor(words(), SMALL)
    first = make_clip(processor, SMALL, seed=1).state_dict()
    torch.rand(7)
    second, other = (make_clip(processor, SMALL, seed=seed).state_dict() for seed in (1, 2))
    assert all(torch.equal(first[name], value) for name, value in second.items())
    assert not torch.equal(first["text_projection.weight"], other["text_projection.weight"])
