import io
import os
import resource
import struct
import zlib
from pathlib import Path

import numpy
import PIL.Image
import pytest

from sightline.data.images import ImageStore
from sightline.records import Image, RecordError

WHITE, RED, BLUE = (255, 255, 255), (255, 0, 0), (0, 0, 255)


def encode(picture: PIL.Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def noise(mode: str = "RGB", size: tuple[int, int] = (32, 24)) -> PIL.Image.Image:
    values = numpy.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=numpy.uint8)
    return PIL.Image.fromarray(values).convert(mode)


def png_header(width: int, height: int) -> bytes:
    """A small file that says it is a large picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def opened(data: bytes, **limits: int) -> PIL.Image.Image:
    return ImageStore(None, **limits).open(Image(data=data))


def refused(store: ImageStore, image: Image) -> str:
    with pytest.raises(RecordError) as caught:
        store.open(image)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Formats and modes


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG"])
def test_each_format_opens(kind: str) -> None:
    picture = PIL.Image.new("RGB", (8, 6), RED)
    result = opened(encode(picture, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert (result.mode, result.size) == ("RGB", (8, 6))
    assert numpy.abs(numpy.asarray(result, dtype=int) - numpy.asarray(picture)).max() <= 2


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_opaque_modes_become_rgb(mode: str) -> None:
    picture = noise().convert(mode)
    assert opened(encode(picture)).tobytes() == picture.convert("RGB").tobytes()


def test_cmyk_becomes_rgb() -> None:
    result = opened(encode(PIL.Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95))
    assert numpy.abs(numpy.asarray(result, dtype=int) - RED).max() <= 4


def test_alpha_is_laid_on_white() -> None:
    picture = PIL.Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((0, 128, 255)):
        picture.putpixel((x, 0), (255, 0, 0, alpha))
    result = opened(encode(picture))
    assert [result.getpixel((x, 0)) for x in (0, 2)] == [WHITE, RED]
    assert result.getpixel((1, 0))[1] in (127, 128)


def test_grey_with_alpha_is_laid_on_white() -> None:
    picture = PIL.Image.new("LA", (2, 1))
    picture.putpixel((0, 0), (10, 0))
    picture.putpixel((1, 0), (10, 255))
    result = opened(encode(picture))
    assert [result.getpixel((x, 0)) for x in (0, 1)] == [WHITE, (10, 10, 10)]


def test_a_transparent_colour_of_a_palette_is_laid_on_white() -> None:
    picture = PIL.Image.new("P", (2, 1))
    picture.putpalette([*RED, *BLUE])
    picture.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        result = opened(encode(picture, kind, transparency=0))
        assert [result.getpixel((x, 0)) for x in (0, 1)] == [WHITE, BLUE]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_high_byte(kind: str) -> None:
    values = numpy.array([[0, 255, 256, 32768, 65535]], dtype=numpy.uint16)
    result = opened(encode(PIL.Image.fromarray(values), kind))
    assert numpy.asarray(result)[0].tolist() == [[v] * 3 for v in (0, 0, 1, 128, 255)]


def test_a_transparent_value_of_sixteen_bits_is_white() -> None:
    values = numpy.array([[0, 32768]], dtype=numpy.uint16)
    data = encode(PIL.Image.fromarray(values), transparency=0)
    assert numpy.asarray(opened(data))[0].tolist() == [[255] * 3, [128] * 3]


def test_grey_of_unknown_range_is_refused() -> None:
    data = encode(PIL.Image.new("F", (4, 4), 0.5), "TIFF")
    assert "32-bit grey values (mode F)" in refused(ImageStore(None), Image(data=data))


def test_the_first_frame_is_taken() -> None:
    frames = [PIL.Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    for kind in ("GIF", "PNG", "TIFF"):
        result = opened(encode(frames[0], kind, save_all=True, append_images=frames[1:]))
        assert result.getpixel((0, 0)) == RED


# Orientation


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    upright = PIL.Image.new("RGB", (32, 16), BLUE)
    upright.paste(RED, (0, 0, 8, 8))
    # The inverse of what each mark asks for: 6 and 8 undo each other, the rest undo themselves.
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    lying = upright.transpose(PIL.Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    image = Image(data=encode(lying, kind, exif=exif, **options))
    result = ImageStore(None).open(image)
    assert result.size == ImageStore(None).size(image) == (32, 16)
    assert numpy.abs(numpy.asarray(result, dtype=int) - numpy.asarray(upright, dtype=int)).max() <= 8


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense"])
def test_a_broken_exif_block_counts_as_none(exif: bytes) -> None:
    assert opened(encode(noise(), "JPEG", exif=exif)).size == (32, 24)


def test_an_orientation_that_does_not_exist_counts_as_none() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 9
    assert opened(encode(noise(), "JPEG", exif=exif)).size == (32, 24)


# Broken, large and foreign files


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(kind: str, part: float) -> None:
    data = encode(noise(), kind)
    sentence = refused(ImageStore(None), Image(data=data[: int(len(data) * part)]))
    assert "embedded image: is broken (" in sentence
    assert sentence.endswith("replace the file by a whole one")


def test_a_flipped_bit_in_a_png_is_refused() -> None:
    data = bytearray(encode(noise()))
    data[data.index(b"IDAT") + 200] ^= 1
    assert "is broken (" in refused(ImageStore(None), Image(data=bytes(data)))


@pytest.mark.parametrize("data", [b"<html>404</html>", b"%PDF-1.7", b"RIFF0000WAVE", b"\x00" * 50, b"P6 1 1 255 abc"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    sentence = refused(ImageStore(None), Image(data=data))
    assert sentence.endswith("is not an image that is read here; use one of PNG, JPEG, WebP, GIF, BMP, TIFF")


def test_an_empty_file_is_refused() -> None:
    assert "embedded image: is empty" in refused(ImageStore(None), Image(data=b""))


def test_four_hundred_megapixels_are_refused_from_the_header() -> None:
    data = png_header(20_000, 20_000)
    assert len(data) < 200
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sentence = refused(ImageStore(None), Image(data=data))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB; decoded it is 1.2 GB
    assert sentence == (
        "embedded image: has 400000000 pixels (20000 x 20000), more than 50000000; "
        "shrink it or raise data.max_image_pixels"
    )


def test_sizes_of_large_pictures_are_refused_too() -> None:
    with pytest.raises(RecordError, match="has 400000000 pixels"):
        ImageStore(None).size(Image(data=png_header(20_000, 20_000)))


def test_the_limit_on_pixels_can_be_raised() -> None:
    data = encode(PIL.Image.new("1", (100, 90)))
    assert opened(data, max_pixels=9000).size == (100, 90)
    assert "has 9000 pixels (100 x 90), more than 8999" in refused(ImageStore(None, max_pixels=8999), Image(data=data))


def test_a_gif_frame_larger_than_its_canvas_is_counted() -> None:
    screen = b"GIF89a" + struct.pack("<HH", 10, 10) + bytes(3)
    data = screen + b"," + struct.pack("<HHHH", 0, 0, 60_000, 60_000) + b"\x00\x08\x01\x00\x00;"
    assert "has too many pixels for Pillow" in refused(ImageStore(None), Image(data=data))


def test_too_many_bytes_are_refused(tmp_path: Path) -> None:
    data = encode(noise())
    (tmp_path / "7.png").write_bytes(data)
    for image in (Image(data=data), Image(path="7.png")):
        sentence = refused(ImageStore(tmp_path, max_bytes=len(data) - 1), image)
        assert f"has {len(data)} bytes, more than {len(data) - 1}" in sentence
        assert sentence.endswith("make the file smaller or raise data.max_image_bytes")
        assert ImageStore(tmp_path, max_bytes=len(data)).open(image).size == (32, 24)


# Paths


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "7.png").write_bytes(encode(noise()))
    (tmp_path / "secret.png").write_bytes(encode(noise()))
    return folder


def test_a_path_below_the_root_opens(root: Path) -> None:
    store = ImageStore(root)
    assert store.open(Image(path="images/7.png")).tobytes() == noise().tobytes()
    assert store.size(Image(path="./images/7.png")) == (32, 24)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("../secret.png", 'has ".." in its path; keep images below the data root (data.root)'),
        ("images/../images/7.png", 'has ".." in its path'),
        ("images/8.png", "cannot be found below"),
        ("images", "is not a file; name an image file"),
        ("images/7.png/x", "cannot be found below"),
        pytest.param("a\0b.png", "holds a zero character", id="zero"),
        pytest.param("x" * 5000, "cannot be found below", id="long"),
    ],
)
def test_other_paths_are_refused(root: Path, path: str, sentence: str) -> None:
    assert sentence in refused(ImageStore(root), Image(path=path))


def test_an_absolute_path_is_refused(root: Path) -> None:
    path = str(root / "images" / "7.png")
    sentence = refused(ImageStore(root), Image(path=path))
    assert f"image '{path}': is an absolute path; write it relative to the data root" in sentence


def test_a_link_that_leaves_the_root_is_refused(root: Path) -> None:
    (root / "away.png").symlink_to(root.parent / "secret.png")
    (root / "folder").symlink_to(root.parent)
    for path in ("away.png", "folder/secret.png"):
        assert "is a link that leads out of the data root" in refused(ImageStore(root), Image(path=path))


def test_a_link_inside_the_root_opens(root: Path) -> None:
    (root / "same.png").symlink_to("images/7.png")
    assert ImageStore(root).open(Image(path="same.png")).size == (32, 24)


def test_a_root_that_is_a_link_opens(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert ImageStore(link).open(Image(path="images/7.png")).size == (32, 24)


def test_a_loop_of_links_is_refused(root: Path) -> None:
    (root / "loop.png").symlink_to("loop.png")
    assert "cannot be found below" in refused(ImageStore(root), Image(path="loop.png"))


def test_a_file_that_may_not_be_read_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    sentence = refused(ImageStore(root), Image(path="images/7.png"))
    assert sentence == ("image 'images/7.png': cannot be read (Permission denied); check the file and its permissions")


def test_a_pipe_is_refused(root: Path) -> None:
    os.mkfifo(root / "pipe.png")
    assert "is not a file" in refused(ImageStore(root), Image(path="pipe.png"))


def test_a_path_needs_a_root() -> None:
    sentence = refused(ImageStore(None), Image(path="images/7.png"))
    assert sentence == ("image 'images/7.png': is a path and there is no data root; set data.root or embed the image")


def test_the_key_is_that_of_the_content(root: Path) -> None:
    (root / "copy.png").write_bytes((root / "images" / "7.png").read_bytes())
    store = ImageStore(root)
    data = (root / "copy.png").read_bytes()
    keys = {store.key(image) for image in (Image(path="copy.png"), Image(path="images/7.png"), Image(data=data))}
    assert len(keys) == 1
    assert keys != {store.key(Image(data=encode(noise("L"))))}
    assert len(keys.pop()) == 64
