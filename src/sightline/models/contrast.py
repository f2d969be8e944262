"""Similarity of pictures and texts by a CLIP or SigLIP model: a cheap judge, biased, and blind to some mistakes.

Owns loading (safetensors only, no remote code, Pillow image processors whether torchvision is there or not), what is
kept of pictures, and the numbers: the cosine of the two embeddings (CLIP, Radford et al., arXiv:2103.00020, section
2.3), CLIPScore (Hessel et al., arXiv:2104.08718, section 3) and SigLIP's probability that the two belong together
(Zhai et al., arXiv:2303.15343, section 3.2). Left out: CLIPScore's prefix "A photo depicts", and its variant with
reference captions. Knows nothing of rewards: build makes one of a scorer.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from PIL import Image as Pillow
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, CLIPModel, Siglip2Model, SiglipModel
from transformers.utils import logging as transformers_logging

from sightline.data.images import ImageStore
from sightline.models.arithmetic import DTYPES
from sightline.records import Image
from sightline.rewards.denial import clauses
from sightline.rewards.text import sentence_ends

Measure = Literal["cosine", "clipscore", "probability"]
CLIPSCORE_WEIGHT = 2.5
KINDS: dict[str, Any] = {"clip": CLIPModel, "siglip": SiglipModel, "siglip2": Siglip2Model}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture by content; it is opened only when its embedding is not kept.

    Example: `Picture(key="7", load=lambda: PIL.Image.open("7.png"))`.
    """

    key: str
    """Equal keys mean equal pictures."""
    load: Callable[[], Pillow.Image]
    """Decodes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrastive:
    """A contrastive model with what turns pictures and texts into its inputs.

    Example: `load_contrastive("openai/clip-vit-large-patch14")` has `model_type` "clip" and `max_tokens` 77.
    """

    model: Any
    """The transformers model, frozen and in evaluation mode."""
    image_processor: Any
    """Makes pixels of pictures."""
    tokenizer: Any
    """Makes tokens of texts."""
    model_type: str
    """One of KINDS."""
    max_tokens: int
    """Tokens of the longest text that the text encoder reads, special ones included."""


def load_contrastive(
    path: str, *, revision: str | None = None, dtype: str = "float32", device: str | None = None
) -> Contrastive:
    """The model at a folder or hub id; without a device on the first GPU, or the CPU where there is none."""
    transformers_logging.disable_progress_bar()
    where = {"revision": revision, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(path, **where)
        if config.model_type not in KINDS:
            known = ", ".join(KINDS)
            raise ValueError(
                f"{path!r} is a model of type {config.model_type!r}, which does not embed pictures and texts in one "
                f"space in a way that is known here; name one of type {known}"
            )
        images = AutoImageProcessor.from_pretrained(path, backend="pil", **where)
        tokenizer = AutoTokenizer.from_pretrained(path, **where)
        kind = KINDS[config.model_type]
        model = kind.from_pretrained(path, dtype=DTYPES[dtype], use_safetensors=True, **where)
    except OSError as error:
        first = str(error).strip().splitlines()[0].rstrip(".")[:200]
        known = "a folder with config.json and model.safetensors, or the id of a model on the hub that can be reached"
        raise ValueError(f"the contrastive model {path!r} could not be loaded ({first}); give {known}") from error
    except ImportError as error:  # SigLIP's first tokenizer is made of SentencePiece's own file
        cure = "pip install sentencepiece protobuf"
        raise ValueError(f"the tokenizer of {path!r} needs a package that is not installed; {cure}") from error
    nn.Module.to(model, torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    model.requires_grad_(False)
    model.eval()
    return Contrastive(
        model=model,
        image_processor=images,
        tokenizer=tokenizer,
        model_type=config.model_type,
        max_tokens=config.text_config.max_position_embeddings,
    )


def embed_pictures(model: Any, pixels: Mapping[str, Tensor]) -> Tensor:
    """Embeddings of pictures, [pictures, width], float32 and of length 1."""
    return normalize(model.get_image_features(**pixels).pooler_output.float(), dim=-1)


def embed_texts(model: Any, tokens: Mapping[str, Tensor]) -> Tensor:
    """Embeddings of texts, [texts, width], float32 and of length 1."""
    return normalize(model.get_text_features(**tokens).pooler_output.float(), dim=-1)


def _said(text: str) -> list[tuple[str, bool]]:
    """A text whole where it denies nothing; else what it says, joined, and each clause that denies something."""
    found = clauses(text)
    denied = [(clause, True) for clause, denies in found if denies]
    if not denied:
        return [(text, False)]
    rest = " ".join(clause for clause, denies in found if not denies)
    return [*([(rest, False)] if rest else []), *denied]


def stored_picture(store: ImageStore, image: Image) -> Picture:
    """The picture of a record."""
    return Picture(key=store.key(image), load=lambda: store.open(image))


class ContrastiveScorer:
    """Scores texts against pictures. State: the embeddings of pictures that are kept, least recently used first."""

    def __init__(
        self,
        loaded: Contrastive,
        *,
        measure: Measure = "cosine",
        centre: float = 0.0,
        spread: float = 1.0,
        keep_pictures: int = 10_000,
        picture_batch: int = 1,
        text_batch: int = 64,
    ) -> None:
        """What is measured, and how much of it counts as one: scores are (measured - centre) / spread.

        Cosines of a trained CLIP lie in a narrow band; with its middle as `centre` and its width as `spread` scores
        weigh as much as other rewards. `picture_batch` of 1 makes an embedding independent of its company, bit for
        bit; raise it on a GPU.
        """
        if measure not in get_args(Measure):
            raise ValueError(f"there is no measure {measure!r}; the measures are {', '.join(get_args(Measure))}")
        if measure == "probability" and loaded.model_type == "clip":
            raise ValueError(
                "measure 'probability' needs a SigLIP model: CLIP gives a probability only among several texts; "
                "take 'cosine' or 'clipscore'"
            )
        if spread <= 0:
            raise ValueError(f"spread is {spread}; give a number above 0, such as the deviation of the scores")
        self._loaded = loaded
        self._measure: Measure = measure
        self._centre = centre
        self._spread = spread
        self._keep_pictures = keep_pictures
        self._picture_batch = picture_batch
        self._text_batch = text_batch
        self._kept: OrderedDict[str, Tensor] = OrderedDict()
        self.num_encoded = 0
        """Pictures encoded so far, for the log and for tests."""
        self.num_split = 0
        """Texts so far that were too long to be read whole."""

    @torch.no_grad()
    def score(self, pictures: Sequence[Picture], texts: Sequence[str]) -> list[float]:
        """The score of each text for the picture at its side.

        A text that is longer than the text encoder reads is never cut short: it is split at the sentence end nearest
        its middle (a space where it is one sentence, any place where it is one word), and each half again until all
        parts fit; its score is the plain mean over its parts. A text that spells a special token ("</s>") is read
        letter by letter, so that nobody hides what follows. Neither order nor repetition changes a score.

        These models hardly hear a "no": "there is no dog" fits a dog well. So of a text that denies something each
        clause that does counts as less what it fits, and never above 0, beside what the text says.
        """
        assert len(pictures) == len(texts), "one picture for each text"
        if not texts:
            return []
        said = {text: _said(text) for text in dict.fromkeys(texts)}
        parts = {one: self._parts(one) for found in said.values() for one, _ in found}
        self.num_split += sum(any(len(parts[one]) > 1 for one, _ in found) for found in said.values())
        seen = self._see(pictures)
        read = self._read([part for found in parts.values() for part in found])
        asked = [
            (seen[picture.key], read[part], denied)
            for picture, text in zip(pictures, texts, strict=True)
            for one, denied in said[text]
            for part in parts[one]
        ]
        shown, written = torch.stack([one for one, _, _ in asked]), torch.stack([one for _, one, _ in asked])
        values = iter(self._measured(shown, written, [denied for _, _, denied in asked]))
        scores = [[next(values) for one, _ in said[text] for _ in parts[one]] for text in texts]
        return [sum(found) / len(found) for found in scores]

    def _measured(self, pictures: Tensor, texts: Tensor, denied: Sequence[bool]) -> list[float]:
        """Scores of pairs of embeddings, both [pairs, width] and of length 1; what is denied counts against them."""
        values = (pictures * texts).sum(-1)
        opposite = torch.tensor(denied, device=values.device)
        if self._measure == "clipscore":
            values = CLIPSCORE_WEIGHT * values.clamp(min=0)
        elif self._measure == "probability":
            model = self._loaded.model
            values = torch.sigmoid(values * model.logit_scale.float().exp() + model.logit_bias.float())
        return ((torch.where(opposite, -values.clamp(min=0), values) - self._centre) / self._spread).tolist()

    def _see(self, pictures: Sequence[Picture]) -> dict[str, Tensor]:
        """Embeddings by key; what is not kept is encoded, each picture once."""
        found = {picture.key: self._kept[picture.key] for picture in pictures if picture.key in self._kept}
        missing = list({picture.key: picture for picture in pictures if picture.key not in found}.values())
        for start in range(0, len(missing), self._picture_batch):
            part = missing[start : start + self._picture_batch]
            pixels = self._loaded.image_processor([picture.load() for picture in part], return_tensors="pt")
            made = embed_pictures(self._loaded.model, pixels.to(self._loaded.model.device))
            found |= zip((picture.key for picture in part), made, strict=True)
        self.num_encoded += len(missing)
        for key in dict.fromkeys(picture.key for picture in pictures):
            self._kept[key] = found[key]
            self._kept.move_to_end(key)
        while len(self._kept) > self._keep_pictures:
            self._kept.popitem(last=False)
        return found

    def _read(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Embeddings by text. Batches hold texts of similar length, and are the same in whatever order texts come."""
        waiting = sorted(set(texts), key=lambda text: (len(text), text))
        found: dict[str, Tensor] = {}
        for start in range(0, len(waiting), self._text_batch):
            part = waiting[start : start + self._text_batch]
            made = embed_texts(self._loaded.model, self._tokens(part).to(self._loaded.model.device))
            found |= zip(part, made, strict=True)
        return found

    def _tokens(self, texts: Sequence[str]) -> Any:
        """What the text encoder reads. SigLIP is trained on padding to full length, which it reads unmasked."""
        if self._loaded.model_type == "clip":
            return self._loaded.tokenizer(list(texts), padding=True, split_special_tokens=True, return_tensors="pt")
        return self._loaded.tokenizer(
            list(texts),
            padding="max_length",
            max_length=self._loaded.max_tokens,
            split_special_tokens=True,
            return_attention_mask=False,
            return_tensors="pt",
        )

    def _parts(self, text: str) -> list[str]:
        """The text whole where it fits, else the parts of its halves."""
        ids = self._loaded.tokenizer(text, split_special_tokens=True, verbose=False).input_ids
        if len(ids) <= self._loaded.max_tokens or len(text) < 2:
            return [text]
        middle = len(text) // 2
        ends = [end for end in sentence_ends(text) if end < len(text)]
        cuts = ends or [space.start() for space in re.finditer(r"\b\s+\b", text)] or [middle]
        cut = min(cuts, key=lambda place: abs(place - middle))
        halves = (text[:cut].strip(), text[cut:].strip())
        return [part for half in halves if half for part in self._parts(half)] or [""]
