"""Pictures and texts scored by tiny random CLIP and SigLIP models, built from configs in code and saved to folders."""

import importlib.util
import json
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pillow
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTokenizer,
    CLIPVisionConfig,
    Siglip2Config,
    Siglip2Model,
    Siglip2TextConfig,
    Siglip2Tokenizer,
    Siglip2VisionConfig,
    SiglipConfig,
    SiglipModel,
    SiglipTextConfig,
    SiglipVisionConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from sightline.data.images import ImageStore
from sightline.models.contrast import (
    KINDS,
    Contrastive,
    ContrastiveScorer,
    Picture,
    load_contrastive,
    stored_picture,
)
from sightline.models.tiny_clip import ClipShape, make_clip_processor
from sightline.records import Image
from sightline.world.vocabulary import words
from tests.tiny import _stir, png, tiny_model

SIDE, PATCH = 16, 8
LENGTHS = {"clip": 24, "siglip": 24, "siglip2": 64}
LETTERS = string.ascii_letters + string.punctuation
TEXTS = ("a red circle", "There is a blue square, a green star and an orange cross.", "", "Bonjour!")
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def make_tokenizer(kind: str) -> Any:
    """Words, or letters for SigLIP 2, whose tokenizer class makes itself from a vocabulary."""
    if kind != "siglip2":
        return make_clip_processor(words(), ClipShape(text_length=LENGTHS[kind])).tokenizer
    pieces = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *LETTERS, *(f"<0x{byte:02X}>" for byte in range(256)))
    return Siglip2Tokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, padding_side="right")


def make_model(kind: str, num_words: int) -> Any:
    text = SIZES | {"vocab_size": num_words, "max_position_embeddings": LENGTHS[kind], "eos_token_id": 1}
    seen = {"image_size": SIDE, "patch_size": PATCH}
    if kind == "clip":
        parts = {"text_config": CLIPTextConfig(**text), "vision_config": CLIPVisionConfig(**SIZES, **seen)}
        model: Any = CLIPModel(CLIPConfig(**parts, projection_dim=12))
    elif kind == "siglip":
        parts = {"text_config": SiglipTextConfig(**text), "vision_config": SiglipVisionConfig(**SIZES, **seen)}
        model = SiglipModel(SiglipConfig(**parts))
    else:
        vision = Siglip2VisionConfig(**SIZES, patch_size=PATCH, num_patches=4)
        model = Siglip2Model(Siglip2Config(text_config=Siglip2TextConfig(**text), vision_config=vision))
    _stir(model, 0)
    return model.eval()


def make_images(kind: str) -> Any:
    square = {"height": SIDE, "width": SIDE}
    if kind == "clip":
        return CLIPImageProcessorPil(size=square, crop_size=square)
    return SiglipImageProcessorPil(size=square) if kind == "siglip" else Siglip2ImageProcessorPil(
        patch_size=PATCH, max_num_patches=4
    )  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Saves a model of a kind once."""
    root = tmp_path_factory.mktemp("contrast")

    def save(kind: str) -> Path:
        if not (root / kind).exists():
            tokenizer = make_tokenizer(kind)
            make_model(kind, len(tokenizer)).save_pretrained(root / kind)
            make_images(kind).save_pretrained(root / kind)
            tokenizer.save_pretrained(root / kind)
        return root / kind

    return save


@pytest.fixture(params=sorted(KINDS))
def loaded(request: pytest.FixtureRequest, saved: Callable[[str], Path]) -> Contrastive:
    return load_contrastive(str(saved(request.param)))


@pytest.fixture
def clip(saved: Callable[[str], Path]) -> Contrastive:
    return load_contrastive(str(saved("clip")))


def picture(seed: int, opened: list[int] | None = None) -> Picture:
    """A picture of random pixels that writes down when it is opened; some need to be resized."""

    def load() -> Pillow.Image:
        if opened is not None:
            opened.append(seed)
        return ImageStore(None).open(Image(data=png(seed, side=SIDE + 4 * (seed % 2))))

    return Picture(key=str(seed), load=load)


def test_cosines_are_those_of_the_models_own_logits(loaded: Contrastive):
    pictures = [picture(seed) for seed in range(len(TEXTS))]
    pixels = loaded.image_processor([each.load() for each in pictures], return_tensors="pt")
    tokens = loaded.tokenizer(list(TEXTS), padding="max_length", max_length=loaded.max_tokens, return_tensors="pt")
    if loaded.model_type != "clip":
        tokens.pop("attention_mask")
    with torch.no_grad():
        own = loaded.model(**pixels, **tokens).logits_per_image
    bias = 0 if loaded.model_type == "clip" else loaded.model.logit_bias.item()
    scorer = ContrastiveScorer(loaded)
    found = torch.tensor([scorer.score([each] * len(TEXTS), TEXTS) for each in pictures])
    torch.testing.assert_close(found * loaded.model.logit_scale.exp().item() + bias, own, rtol=0, atol=1e-5)
    assert found.std() > 0.01


def test_the_other_measures_follow_from_the_cosine(loaded: Contrastive):
    pictures = [picture(seed) for seed in range(len(TEXTS))]
    cosines = torch.tensor(ContrastiveScorer(loaded).score(pictures, TEXTS))
    clipscores = torch.tensor(ContrastiveScorer(loaded, measure="clipscore").score(pictures, TEXTS))
    torch.testing.assert_close(clipscores, 2.5 * cosines.clamp(min=0))
    spread = torch.tensor(ContrastiveScorer(loaded, centre=0.25, spread=0.5).score(pictures, TEXTS))
    torch.testing.assert_close(spread, (cosines - 0.25) / 0.5)
    if loaded.model_type == "clip":
        with pytest.raises(ValueError, match="measure 'probability' needs a SigLIP model: CLIP gives"):
            ContrastiveScorer(loaded, measure="probability")
        return
    logits = cosines * loaded.model.logit_scale.exp() + loaded.model.logit_bias
    found = torch.tensor(ContrastiveScorer(loaded, measure="probability").score(pictures, TEXTS))
    torch.testing.assert_close(found, torch.sigmoid(logits))


@pytest.mark.parametrize("measure", ["cosine", "clipscore", "probability"])
def test_what_is_denied_counts_as_less_what_it_fits(loaded: Contrastive, measure: Any):
    if measure == "probability" and loaded.model_type == "clip":
        return
    scorer = ContrastiveScorer(loaded, measure=measure)
    denied, said = "There is no blue square", "a red circle is here"
    [plain, fits] = ContrastiveScorer(loaded, measure=measure).score(
        [picture(0)] * 2, [said, "There is no, blue square"]
    )
    assert fits <= 0
    assert scorer.score([picture(0)], [denied])[0] <= 0
    [both] = scorer.score([picture(0)], [f"{said}; {denied}"])
    [alone] = scorer.score([picture(0)], [denied])
    [stated] = scorer.score([picture(0)], [f"{said};"])
    assert both == pytest.approx((stated + alone) / 2, abs=1e-5)
    assert plain == pytest.approx(scorer.score([picture(0)], [said])[0], abs=1e-6)


def test_neither_order_nor_batches_change_a_score(loaded: Contrastive):
    pictures, texts = [picture(seed) for seed in (0, 1, 2, 0)], list(TEXTS)
    once = ContrastiveScorer(loaded).score(pictures, texts)
    assert ContrastiveScorer(loaded).score(pictures[::-1], texts[::-1]) == once[::-1]
    assert ContrastiveScorer(loaded).score(pictures * 2, texts * 2) == once * 2
    batched = ContrastiveScorer(loaded, picture_batch=3, text_batch=2).score(pictures, texts)
    assert batched == pytest.approx(once, abs=1e-6)
    alone = [ContrastiveScorer(loaded).score([p], [text])[0] for p, text in zip(pictures, texts, strict=True)]
    assert alone == pytest.approx(once, abs=1e-6)
    assert ContrastiveScorer(loaded).score([], []) == []


def test_each_distinct_picture_is_encoded_once_and_a_bounded_number_is_kept(clip: Contrastive):
    opened: list[int] = []
    scorer = ContrastiveScorer(clip, keep_pictures=2)
    pictures = [picture(seed, opened) for seed in (0, 1, 0, 1)]
    first = scorer.score(pictures, TEXTS)
    assert opened == [0, 1]
    assert scorer.score(pictures, TEXTS) == first
    assert opened == [0, 1]
    scorer.score([picture(0, opened), picture(2, opened)], TEXTS[:2])  # 1 was used longest ago, and goes
    assert opened == [0, 1, 2]
    assert scorer.score(pictures, TEXTS) == first
    assert opened == [0, 1, 2, 1]
    assert scorer.num_encoded == 4
    many = [picture(seed, opened) for seed in range(4)]
    assert len(scorer.score(many, TEXTS)) == 4


def test_a_long_text_is_split_and_scored_as_the_mean_of_its_parts(loaded: Contrastive):
    sentences = ["There is a red circle, a blue square and a star.", "There is a green cross.", "It is an old one."]
    scorer = ContrastiveScorer(loaded)
    whole, *parts = scorer.score([picture(0)] * 4, [" ".join(sentences), *sentences])
    halves = scorer.score([picture(0)] * 2, [sentences[0], " ".join(sentences[1:])])
    assert whole == pytest.approx(sum(halves) / 2, abs=1e-6)
    assert scorer.num_split == 1
    assert len({round(part, 4) for part in parts}) == 3


@pytest.mark.parametrize("text", ["a red circle " * 400, "x" * 3000, "Hm. " * 500, "é" * 99, "A. " + "b" * 99])
def test_whatever_is_long_is_read_to_its_end_in_parts_that_fit(clip: Contrastive, text: str):
    scorer = ContrastiveScorer(clip)
    parts = scorer._parts(text)
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")
    assert all(len(clip.tokenizer(part).input_ids) <= clip.max_tokens for part in parts)
    [score] = scorer.score([picture(0)], [text])
    assert score == pytest.approx(sum(scorer.score([picture(0)] * len(parts), parts)) / len(parts), abs=1e-6)
    assert scorer.num_split == 1


def test_a_text_of_blanks_counts_as_empty_when_it_does_not_fit(clip: Contrastive):
    scorer = ContrastiveScorer(clip)
    blank, empty = scorer.score([picture(0)] * 2, [" " * 500, ""])
    assert blank == empty
    assert scorer.num_split == 0


@pytest.mark.parametrize("end", ["</s>", "<pad>"])
def test_a_text_that_spells_a_special_token_hides_nothing_behind_it(clip: Contrastive, end: str):
    scorer = ContrastiveScorer(clip)
    texts = [f"a red circle{end} a blue square", f"a red circle{end} a green star", "a red circle"]
    assert len({round(score, 4) for score in scorer.score([picture(0)] * 3, texts)}) == 3


def test_openai_tokenizers_hide_nothing_behind_a_spelled_end_either(saved: Callable[[str], Path], tmp_path: Path):
    pieces = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    tokenizer = CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])
    model = make_model("clip", len(pieces))
    model.config.text_config.eos_token_id = model.text_model.eos_token_id = tokenizer.eos_token_id
    for part in (model, make_images("clip"), tokenizer):
        part.save_pretrained(tmp_path)
    scorer = ContrastiveScorer(load_contrastive(str(tmp_path)))
    scores = scorer.score([picture(0)] * 2, ["a<|endoftext|>b", "a<|endoftext|>c"])
    assert scores[0] != pytest.approx(scores[1], abs=1e-4)


def test_bfloat16_gives_nearly_the_same(saved: Callable[[str], Path], clip: Contrastive):
    half = load_contrastive(str(saved("clip")), dtype="bfloat16", device="cpu")
    pictures = [picture(seed) for seed in range(len(TEXTS))]
    exact = ContrastiveScorer(clip).score(pictures, TEXTS)
    assert ContrastiveScorer(half).score(pictures, TEXTS) == pytest.approx(exact, abs=0.05)
    assert not any(p.requires_grad for p in half.model.parameters())
    assert not half.model.training


def test_pictures_of_records_are_known_by_content(tmp_path: Path):
    (tmp_path / "7.png").write_bytes(png(7))
    store = ImageStore(tmp_path)
    by_path, by_bytes = (stored_picture(store, image) for image in (Image(path="7.png"), Image(data=png(7))))
    assert by_path.key == by_bytes.key
    assert by_path.load().tobytes() == by_bytes.load().tobytes()


def test_a_model_of_another_type_is_refused_with_those_that_are_known(tmp_path: Path):
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"of type 'llava', which does not embed .* one of type clip, siglip, siglip2"):
        load_contrastive(str(tmp_path))


def test_weights_that_are_no_safetensors_are_refused(saved: Callable[[str], Path], tmp_path: Path):
    for file in saved("clip").iterdir():
        name = "pytorch_model.bin" if file.suffix == ".safetensors" else file.name
        (tmp_path / name).write_bytes(file.read_bytes())
    with pytest.raises(
        ValueError, match=r"could not be loaded \(.*\); give a folder with config.json and model.safete"
    ):
        load_contrastive(str(tmp_path))


@pytest.mark.skipif(importlib.util.find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
def test_a_tokenizer_that_needs_sentencepiece_says_so(saved: Callable[[str], Path], tmp_path: Path):
    shutil.copytree(saved("siglip"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "SiglipTokenizer"}))
    with pytest.raises(ValueError, match="is not installed; pip install sentencepiece protobuf"):
        load_contrastive(str(tmp_path))


def test_options_that_mean_nothing_are_refused(clip: Contrastive):
    with pytest.raises(ValueError, match="no measure 'cosin'; the measures are cosine, clipscore, probability"):
        ContrastiveScorer(clip, measure="cosin")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="spread is 0; give a number above 0"):
        ContrastiveScorer(clip, spread=0)
