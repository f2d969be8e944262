"""One way to open a picture: what the model is shown is what rewards, server and reports see; and what it may cost."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy
import PIL.Image
import pytest

from sightline.data.images import ImageStore
from sightline.models.inputs import Inputs
from sightline.pictures import MAX_SCANS, PictureProblem, open_picture, picture_size
from sightline.records import Completion, Image
from sightline.rewards.contract import RewardContext
from sightline.rewards.judging import make_judge
from sightline.rewards.pool import Call
from tests.rewards.seeing import SEEN
from tests.tiny import tiny_inputs, tiny_loaded

AREA = [{"name": "tests.rewards.seeing:area"}]


def encode(picture: PIL.Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def noise(size: tuple[int, int] = (32, 24)) -> PIL.Image.Image:
    values = numpy.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=numpy.uint8)
    return PIL.Image.fromarray(values)


def turned() -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    return encode(noise(), "JPEG", exif=exif)


def clear(mode: str) -> bytes:
    picture = noise().convert(mode)
    picture.putalpha(PIL.Image.linear_gradient("L").resize(picture.size))
    return encode(picture)


def sixteen_bits() -> bytes:
    values = numpy.random.default_rng(0).integers(0, 2**16, (24, 32), dtype=numpy.uint16)
    return encode(PIL.Image.fromarray(values))


def clear_palette() -> bytes:
    return encode(noise().quantize(8), transparency=3)


def moving() -> bytes:
    frames = [noise().quantize(8), PIL.Image.new("P", (32, 24))]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:])


KINDS: dict[str, Callable[[], bytes]] = {
    "turned by EXIF": turned,
    "colours with alpha": lambda: clear("RGB"),
    "grey with alpha": lambda: clear("L"),
    "16 bits": sixteen_bits,
    "a palette": lambda: encode(noise().quantize(8)),
    "a palette with a clear colour": clear_palette,
    "CMYK": lambda: encode(noise().convert("CMYK"), "JPEG"),
    "moving": moving,
    "one bit": lambda: encode(noise().convert("1")),
}


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return tiny_inputs(tiny_loaded())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by_path", [True, False])
def test_a_reward_sees_the_picture_that_the_model_sees(kind: str, by_path: bool, tmp_path: Path, inputs: Inputs):
    data = KINDS[kind]()
    (tmp_path / "picture").write_bytes(data)
    SEEN.clear()
    picture = str(tmp_path / "picture") if by_path else data
    make_judge(AREA)(Call(completion=Completion(text="x"), context=RewardContext(truth={}), picture=picture))
    [shown] = SEEN
    assert numpy.array_equal(shown, ImageStore(tmp_path).open(Image(path="picture")))
    assert shown.size == picture_size(data) == inputs.sizes(Image(data=data))[0]
    read = [inputs.image(Image(data=file), alone=True).load() for file in (data, encode(shown))]
    assert numpy.array_equal(*read)


# What a file may cost


def with_scans(num: int) -> bytes:
    """A progressive JPEG whose last scan is there `num` times."""
    data = encode(noise((64, 64)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * num + data[-2:]


def test_ordinary_progressive_pictures_open():
    data = encode(noise((64, 48)), "JPEG", progressive=True)
    assert open_picture(data).size == (64, 48)


def test_a_picture_of_a_thousand_scans_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch):
    data = with_scans(1000)

    def decode(self: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(PIL.Image.Image, "load", decode)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    with pytest.raises(PictureProblem, match=f"is a JPEG of 4096 pixels in more than {MAX_SCANS} scans; save it again"):
        open_picture(data)
    with pytest.raises(PictureProblem, match="scans"):
        picture_size(data)


def test_large_pictures_may_have_fewer_scans(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sightline.pictures.MAX_SCANNED_PIXELS", 4096 * 5)
    with pytest.raises(PictureProblem, match="in more than 5 scans"):
        open_picture(encode(noise((64, 64)), "JPEG", progressive=True))
    assert open_picture(encode(noise((64, 64)), "JPEG")).size == (64, 64)


def test_marks_behind_the_picture_and_inside_its_metadata_are_no_scans():
    data = encode(noise((64, 64)), "JPEG")
    marks = b"\xff\xda" * 1000
    comment = b"\xff\xfe" + (len(marks) + 2).to_bytes(2) + marks
    assert open_picture(data[:2] + comment + data[2:] + marks).size == (64, 64)


def test_a_file_of_marks_alone_is_no_picture_and_costs_little():
    data = encode(noise((64, 64)), "JPEG")
    start = data.index(b"\xff\xda")
    with pytest.raises(PictureProblem):
        open_picture(data[:start] + b"\xff\x01" * 2_000_000 + data[start:])


def test_the_limit_on_pixels_is_the_callers():
    data = encode(noise())
    judge = make_judge(AREA, max_image_pixels=100)
    with pytest.raises(PictureProblem, match="has 768 pixels"):
        judge(Call(completion=Completion(text="x"), context=RewardContext(truth={}), picture=data))
