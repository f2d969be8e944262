"""The frame: escaping, the policy, and how numbers are written."""

import math

import pytest

from sightline.reports.page import bullets, compact, definitions, fixed, page, percent, picture_uri, section, text
from tests.reports.invented import HOSTILE, Reader, assert_self_contained, png


def test_text_escapes_markup_and_shows_control_characters():
    assert text('<b a="1">&\'') == "&lt;b a=&quot;1&quot;&gt;&amp;&#x27;"
    assert text("a\x00b\x1bc\x85d\ud800e") == "a\ufffdb\ufffdc\ufffdd\ufffde"
    assert text("two\nlines\tand → more") == "two\nlines\tand → more"


def test_a_page_of_hostile_text_is_inert_and_can_be_encoded():
    body = section(HOSTILE, definitions({HOSTILE: HOSTILE}) + bullets([HOSTILE]), anchor=HOSTILE, lead=HOSTILE)
    document = page(title=HOSTILE, body=body, description=HOSTILE)
    document.encode("utf-8")
    reader = assert_self_contained(document)
    assert reader.text.count('<script>alert("x")</script>') == 6


def test_a_page_forbids_scripts_and_follows_the_reader_s_theme():
    reader = Reader(page(title="t", body="<p>b</p>"))
    (policy,) = reader.having("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'" in policy["content"]
    assert "script" not in policy["content"]
    assert "prefers-color-scheme: dark" in reader.text
    assert reader.having("html", lang="en")
    assert reader.having("meta", name="viewport")


def test_a_picture_must_be_a_png_or_jpeg_file():
    assert picture_uri(png()).startswith("data:image/png;base64,iVBOR")
    assert picture_uri(b"\xff\xd8\xff\xe0").startswith("data:image/jpeg;base64,")
    with pytest.raises(ValueError, match="no PNG or JPEG file"):
        picture_uri(b"GIF89a")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (percent(0.1234), "12.3%"),
        (percent(-0.6, signed=True), "\u221260.0%"),
        (percent(0.5, digits=0, signed=True), "+50%"),
        (percent(math.nan), "not finite"),
        (fixed(-0.0004, 2), "0.00"),
        (fixed(0.0, 1, signed=True), "0.0"),
        (fixed(12345.6, 0), "12,346"),
        (compact(0), "0"),
        (compact(300), "300"),
        (compact(0.69314), "0.6931"),
        (compact(-12.3456), "\u221212.35"),
        (compact(0.01), "0.01000"),
        (compact(8e-05), "8e\u22125"),
        (compact(-1.234e12), "\u22121.23e12"),
        (compact(5210.7), "5,211"),
        (compact(math.inf), "not finite"),
    ],
)
def test_numbers_are_written_for_people(written: str, expected: str):
    assert written == expected
