"""Pictures of a data set: found below the data root, and bounded in bytes before they are opened.

Owns paths and the names in errors; what a file becomes is one level below, in `sightline.pictures`.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import PIL.Image

from sightline.pictures import MAX_BYTES, MAX_PIXELS, PictureProblem, open_picture, picture_size
from sightline.records import Image, RecordError


class ImageStore:
    """Opens the images of records: by path below `root`, or from the bytes that the row carries.

    Nothing is kept between calls. Every error is a RecordError that names the image, the value and the cure.

    Example: `ImageStore(Path("data")).open(Image(path="images/7.png"))` is an RGB picture.
    """

    def __init__(self, root: Path | None, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> None:
        """Without a root only embedded images open; the limits: pixels of a picture, bytes of a file."""
        self._root = root
        self.max_pixels = max_pixels
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
        data = self.read(image)
        with _named(image):
            return picture_size(data, max_pixels=self.max_pixels)

    def open(self, image: Image) -> PIL.Image.Image:
        """The whole picture, verified: upright, RGB, alpha laid on white, the first frame of several."""
        data = self.read(image)
        with _named(image):
            return open_picture(data, max_pixels=self.max_pixels)

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


def embedded(path: Path) -> Image:
    """A file that the user names as an image that carries it, opened once so that an error names it."""
    store = ImageStore(path.resolve().parent)
    try:
        image = Image(data=store.read(Image(path=path.resolve().name)))
        store.open(image)
    except RecordError as error:
        raise RecordError(str(path), error.problem, error.cure) from error
    return image


def _name(image: Image) -> str:
    return "embedded image" if image.path is None else f"image {image.path!r}"


@contextmanager
def _named(image: Image) -> Iterator[None]:
    """Problems of a picture as a record's error with its name."""
    try:
        yield
    except PictureProblem as error:
        raise RecordError(_name(image), error.problem, error.cure) from error
