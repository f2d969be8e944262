import io

import pytest

from sightline import bounded
from sightline.bounded import Unreadable, lines_of, parse_json, parse_json_bytes, parse_yaml

LAUGHS = "a0: &a0 [x]\n" + "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !!bool maybe", "line 1: the tag !!bool is not read; write the value without it"),
        ("a: !!int ''", "line 1: the tag !!int is not read"),
        ("a: !!binary aGVsbG8=", "line 1: the tag !!binary is not read"),
        ("a: !!timestamp x", "line 1: the tag !!timestamp is not read"),
        ("a: !!python/name:os.system", "line 1: the tag !!python/name:os.system is not read"),
        ("a: !mine 5", "line 1: the tag !mine is not read"),
        ("a: " + "[" * 5000 + "]" * 5000, "line 1: blocks are nested more than 50 deep; nest them less deeply"),
        ("a: " + "[" * 100_000, "line 1: blocks are nested more than 50 deep"),
        ("\n".join(f"k{i}: 1" for i in range(20_000)), "there are more than 20,000 keys and values; write fewer"),
        (LAUGHS, "there are more than 20,000 keys and values"),
        ("a: &x [*x]", "line 1: the alias *x stands inside what it names; write it out"),
        ("a: *nowhere", "line 1: found undefined alias 'nowhere'"),
        ("a: " + "9" * 400, "line 1: 9999999999999999999999999999999999999... is too large"),
        ("a: " + "9" * 5000, "is too large; write no number beyond 9223372036854775807"),
        ("a: .nan", "line 1: .nan is not finite; give a finite number"),
        ("a: 1.0e+999", "line 1: 1.0e+999 is not finite"),
        ("a: 0x_", "line 1: 0x_ is no whole number; put text in quotes"),
        ('a: "\\ud800"', "line 1: half of a surrogate pair; write whole characters"),
        ("a: 1\na: 2", "line 2: key 'a' is given twice; remove one"),
        ("1: x", "line 1: key 1 is not text; put it in quotes"),
        ("? [a]\n: b", "line 1: a key is not text; put it in quotes"),
        ("~: x", "line 1: key ~ is not text"),
        ("# " + "x" * 2**20, "has 1,048,578 characters; keep it below 1,048,576"),
    ],
)
def test_yaml_beyond_a_bound_is_one_sentence(text, said):
    with pytest.raises(Unreadable) as caught:
        parse_yaml(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_plain_yaml_is_read_as_it_was():
    text = "a: &x {b: 1, c: [yes, 2.5, null, 0x10]}\nd: {<<: *x, b: 2}\ne: 2001-01-01\nf: 'x: y'\ng: 1e-4\nh: *x"
    assert parse_yaml(text) == {
        "a": {"b": 1, "c": [True, 2.5, None, 16]},
        "d": {"b": 2, "c": [True, 2.5, None, 16]},
        "e": "2001-01-01",
        "f": "x: y",
        "g": "1e-4",
        "h": {"b": 1, "c": [True, 2.5, None, 16]},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 900 + "]" * 900, "is nested more than 100 deep; nest it less deeply"),
        ("[" * 100_000, "is nested more than 100 deep"),
        ('{"a": ' * 101 + "1" + "}" * 101, "is nested more than 100 deep"),
        ('{"a": 1, "b": 2, "a": 3}', "has the key 'a' twice in one object; keep one of them"),
        ("[NaN]", "holds NaN, which is no JSON"),
        ("[1e999]", "holds 1e999, which is not finite"),
        ("[-1E+0999]", "holds -1E+0999, which is not finite"),
        ("[" + "9" * 400 + "]", "holds the whole number 9999999999999999999999999999999999999..."),
        ("[" + "9" * 5000 + "]", "holds the whole number 9999999"),
        ("[9223372036854775808]", "write none beyond 9223372036854775807"),
        ('["\\ud800"]', "holds half of a surrogate pair; write whole characters"),
        ('{"\\udfff": 1}', "holds half of a surrogate pair"),
        ("[" + "[]," * 2_000_000 + "[]]", "holds more than 4,000,000 values; split it"),
        ("{", "is not JSON (Expecting property name enclosed in double quotes at column 2)"),
    ],
)
def test_json_beyond_a_bound_is_one_sentence(text, said):
    with pytest.raises(Unreadable) as caught:
        parse_json(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_plain_json_is_read_as_it_was():
    assert parse_json('{"a": [1, -2.5e-300, "\\ud83d\\ude00", null, 9223372036854775807]}') == {
        "a": [1, -2.5e-300, "\U0001f600", None, 2**63 - 1]
    }
    assert parse_json('"' + ",:[{" * 400_000 + '"') == ",:[{" * 400_000
    assert parse_json("[" * 100 + "]" * 100) is not None
    assert parse_json_bytes(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    with pytest.raises(Unreadable, match=r"is not UTF-8 \(byte 2\)"):
        parse_json_bytes(b'"\xff"')


def test_a_line_without_end_is_passed_over_in_pieces(monkeypatch):
    monkeypatch.setattr(bounded, "MAX_JSON", 10)
    file = io.BytesIO(b"short\n" + b"x" * 10 + b"\n" + b"y" * 95 + b"\nlast")
    assert list(lines_of(file)) == [(1, b"short\n"), (2, b"x" * 10 + b"\n"), (3, None), (4, b"last")]
