"""Pictures of a data set: found below the data root, bounded before they are decoded, made upright RGB.

Owns paths, limits, formats and modes. Knows nothing of models: nothing is resized here.
Metadata that cannot be read counts as none: a picture whose EXIF block is broken is taken as it lies.
"""

import hashlib
import os
import stat
import struct
import zlib
from io import BytesIO
from pathlib import Path, PurePosixPath

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

from sightline.records import Image, RecordError

MAX_PIXELS = 50_000_000
MAX_BYTES = 64 * 2**20

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


class ImageStore:
    """Opens the images of records: by path below `root`, or from the bytes that the row carries.

    Nothing is kept between calls. Every error is a RecordError that names the image, the value and the cure.

    Example: `ImageStore(Path("data")).open(Image(path="images/7.png"))` is an RGB picture.
    """

    def __init__(self, root: Path | None, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> None:
        """Without a root only embedded images open; the limits: pixels of a picture, bytes of a file."""
        self._root = root
        self._max_pixels = max_pixels
        self._max_bytes = max_bytes

    def read(self, image: Image) -> bytes:
        """The encoded file, unverified but within the limit on bytes."""
        if image.data is not None:
            self._check_bytes(len(image.data), _name(image))
            return image.data
        path = self.locate(image)
        try:
            with path.open("rb") as file:
                data = file.read(self._max_bytes + 1)  # one more: the file may have grown since it was measured
        except OSError as error:
            raise RecordError(
                _name(image), f"cannot be read ({error.strerror})", "check the file and its permissions"
            ) from error
        self._check_bytes(len(data), _name(image))
        return data

    def key(self, image: Image) -> str:
        """SHA-256 of the encoded file in hexadecimal: the same picture under two paths has one key."""
        return hashlib.sha256(self.read(image)).hexdigest()

    def size(self, image: Image) -> tuple[int, int]:
        """Width and height of the upright picture, from its header where the format allows it."""
        picture = self._header(self.read(image), _name(image))
        width, height = picture.size
        if isinstance(picture, TiffImageFile):  # the one reader that turns by itself, and says the size after it
            return width, height
        return (height, width) if _orientation(picture) >= 5 else (width, height)

    def open(self, image: Image) -> PIL.Image.Image:
        """The whole picture, verified: upright, RGB, alpha laid on white, the first frame of several."""
        data, name = self.read(image), _name(image)
        picture = self._header(data, name)
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
            raise _broken(name, error) from error
        raise RecordError(
            name,
            f"has 32-bit grey values (mode {picture.mode}), whose range of brightness is not known",
            "save it with 8 or 16 bits",
        )

    def locate(self, image: Image) -> Path:
        """The file of an image that is given by path, confined to the root."""
        assert image.path is not None
        name = _name(image)
        if self._root is None:
            raise RecordError(name, "is a path and there is no data root", "set data.root or embed the image")
        if "\0" in image.path:
            raise RecordError(name, "holds a zero character", "write a plain file name")
        relative = PurePosixPath(image.path)
        if relative.is_absolute() or Path(image.path).is_absolute():
            raise RecordError(name, "is an absolute path", "write it relative to the data root (data.root)")
        if ".." in relative.parts or ".." in Path(image.path).parts:
            raise RecordError(name, 'has ".." in its path', "keep images below the data root (data.root)")
        try:
            path = Path(os.path.realpath(self._root / image.path, strict=True))
            facts = path.stat()
        except OSError as error:
            problem = f"cannot be found below {self._root} ({error.strerror})"
            raise RecordError(name, problem, "check the path and data.root") from error
        if not path.is_relative_to(os.path.realpath(self._root)):
            problem = f"is a link that leads out of the data root {self._root}"
            raise RecordError(name, problem, "copy the file below the data root (data.root)")
        if not stat.S_ISREG(facts.st_mode):
            raise RecordError(name, "is not a file", "name an image file")
        self._check_bytes(facts.st_size, name)
        return path

    def _check_bytes(self, num_bytes: int, name: str) -> None:
        if num_bytes > self._max_bytes:
            raise RecordError(
                name,
                f"has {num_bytes} bytes, more than {self._max_bytes}",
                "make the file smaller or raise data.max_image_bytes",
            )

    def _header(self, data: bytes, name: str) -> ImageFile:
        """The picture with only its header read, refused when it would not fit."""
        reader = _reader(data)
        if reader is None:
            problem = "is empty" if not data else "is not an image that is read here"
            raise RecordError(name, problem, f"use one of {_FORMATS}")
        try:
            picture = reader(BytesIO(data))
        except _TOO_MANY as error:  # the readers of WebP and GIF have a limit of their own
            raise RecordError(name, f"has too many pixels for Pillow ({_reason(error)})", "shrink it") from error
        except _BROKEN as error:
            raise _broken(name, error) from error
        width, height = picture.size
        if width * height > self._max_pixels:
            raise RecordError(
                name,
                f"has {width * height} pixels ({width} x {height}), more than {self._max_pixels}",
                "shrink it or raise data.max_image_pixels",
            )
        return picture


def _name(image: Image) -> str:
    return "embedded image" if image.path is None else f"image {image.path!r}"


def _reader(data: bytes) -> type[ImageFile] | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImageFile
    return next((reader for signature, reader in _SIGNATURES if data.startswith(signature)), None)


def _broken(name: str, error: BaseException) -> RecordError:
    return RecordError(name, f"is broken ({_reason(error)})", "replace the file by a whole one")


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
