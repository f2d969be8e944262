"""The one way to open a picture: encoded bytes become upright RGB, bounded before anything is decoded.

Owns formats, modes, orientation, transparency, and what a file may cost. Model inputs, rewards, the server and reports
all open pictures here, so that nobody judges another picture than the model saw. Knows neither paths nor records.
Metadata that cannot be read counts as none: a picture whose EXIF block is broken is taken as it lies.
"""

import re
import struct
import zlib
from io import BytesIO

import numpy
import PIL.Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import Transpose
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

MAX_PIXELS = 50_000_000
MAX_BYTES = 64 * 2**20
MAX_SCANS = 64
MAX_SCANNED_PIXELS = 1_000_000_000
"""Scans times pixels: a progressive JPEG is walked once for every scan, however little a scan holds."""
_MAX_MARKERS = 100_000

# Readers are chosen by the first bytes and called by themselves: PIL.Image.open would try every format that
# any package has registered, and keeps its limit on pixels in a global.
_SIGNATURES: tuple[tuple[bytes, type[ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"\xff\xd8\xff", JpegImageFile),
    (b"GIF87a", GifImageFile),
    (b"GIF89a", GifImageFile),
    (b"BM", BmpImageFile),
    (b"II*\x00", TiffImageFile),
    (b"MM\x00*", TiffImageFile),
)
_FORMATS = "PNG, JPEG, WebP, GIF, BMP, TIFF"

# What Pillow's readers raise on broken files; there is no common class.
_BROKEN = (
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    UserWarning,  # raised only where Python was told to make warnings errors
    ValueError,
    struct.error,
    zlib.error,
)
_TOO_MANY = (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning)

_ORIENTATION = 0x0112
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))
"""Marks that stand alone; those of restarts lie inside the data of a scan."""

_MARKER = re.compile(rb"\xff[^\x00\xff]")


class PictureProblem(ValueError):
    """Why a file does not become a picture: what is wrong with it, and the cure."""

    def __init__(self, problem: str, cure: str) -> None:
        """Both as parts of a sentence that begins with the picture's name."""
        super().__init__(f"{problem}; {cure}")
        self.problem, self.cure = problem, cure


def open_picture(data: bytes, *, max_pixels: int = MAX_PIXELS) -> PIL.Image.Image:
    """The whole picture, verified: upright, RGB, alpha laid on white, the first frame of several."""
    picture = _header(data, max_pixels)
    try:
        # Checksums first, on an object of its own: verify() uses it up, and load() does not look at them.
        type(picture)(BytesIO(data)).verify()
        picture.load()
        # Only after load(), where the TIFF reader has turned the picture and taken the mark away.
        turn = _TURNS.get(_orientation(picture))
        if picture.mode not in ("I", "F"):
            upright = _rgb(picture)
            return upright if turn is None else upright.transpose(turn)
    except _BROKEN as error:
        raise _broken(error) from error
    raise PictureProblem(
        f"has 32-bit grey values (mode {picture.mode}), whose range of brightness is not known",
        "save it with 8 or 16 bits",
    )


def picture_size(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height of the upright picture, from its header where the format allows it."""
    picture = _header(data, max_pixels)
    width, height = picture.size
    if isinstance(picture, TiffImageFile):  # the one reader that turns by itself, and says the size after it
        return width, height
    return (height, width) if _orientation(picture) >= 5 else (width, height)


def _header(data: bytes, max_pixels: int) -> ImageFile:
    """The picture with only its header read, refused when it would cost too much."""
    reader = _reader(data)
    if reader is None:
        problem = "is empty" if not data else "is not an image that is read here"
        raise PictureProblem(problem, f"use one of {_FORMATS}")
    try:
        picture = reader(BytesIO(data))
    except _TOO_MANY as error:  # the readers of WebP and GIF have a limit of their own
        raise PictureProblem(f"has too many pixels for Pillow ({_reason(error)})", "shrink it") from error
    except _BROKEN as error:
        raise _broken(error) from error
    width, height = picture.size
    if width * height > max_pixels:
        raise PictureProblem(
            f"has {width * height} pixels ({width} x {height}), more than {max_pixels}",
            "shrink it or raise data.max_image_pixels",
        )
    if reader is JpegImageFile:
        _check_scans(data, width * height)
    return picture


def _check_scans(data: bytes, num_pixels: int) -> None:
    """Refuse a JPEG of so many scans that decoding it takes minutes, from its markers alone."""
    most = max(1, min(MAX_SCANS, MAX_SCANNED_PIXELS // max(num_pixels, 1)))
    if _num_scans(data, most) > most:
        problem = f"is a JPEG of {num_pixels} pixels in more than {most} scans"
        raise PictureProblem(problem, "save it again as a plain (baseline) JPEG or PNG")


def _num_scans(data: bytes, enough: int) -> int:
    """Scans of a JPEG up to its end mark; counting ends above `enough`, and at more marks than any file has."""
    place, num_scans = 2, 0
    for _ in range(_MAX_MARKERS):
        found = _MARKER.search(data, place)
        if found is None:
            return num_scans
        kind, place = data[found.end() - 1], found.end()
        if kind == _END_OF_IMAGE:
            return num_scans
        num_scans += kind == _START_OF_SCAN
        if num_scans > enough:
            return num_scans
        if kind not in _WITHOUT_LENGTH:
            place += max(int.from_bytes(data[place : place + 2]), 2)
    return enough + 1


def _reader(data: bytes) -> type[ImageFile] | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImageFile
    return next((reader for signature, reader in _SIGNATURES if data.startswith(signature)), None)


def _broken(error: BaseException) -> PictureProblem:
    return PictureProblem(f"is broken ({_reason(error)})", "replace the file by a whole one")


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _orientation(picture: ImageFile) -> int:
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except _BROKEN:
        return 1
    return value if isinstance(value, int) and value in _TURNS else 1


def _rgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    if picture.mode.startswith("I;16"):
        values = numpy.asarray(picture)
        grey = (values >> 8).astype(numpy.uint8)  # the high byte: what Pillow keeps of 16-bit colours
        transparent = picture.info.get("transparency")
        if isinstance(transparent, int):
            grey[values == transparent] = 255
        return PIL.Image.fromarray(grey).convert("RGB")
    if picture.has_transparency_data:
        coloured = picture.convert("RGBA")
        white = PIL.Image.new("RGBA", coloured.size, "white")
        return PIL.Image.alpha_composite(white, coloured).convert("RGB")
    return picture.convert("RGB")
