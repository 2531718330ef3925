"""Packer's lines: what they say, how they are cut, and that nobody forges them."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from packer_fork.packer import lines
from packer_fork.packer.lines import CUT, MAX_LINE, Line

LOGS = sorted((Path(__file__).parent / "logs").iterdir())
AT = datetime(2026, 11, 23, 21, 55, 59, tzinfo=UTC)


def test_a_line_in_its_parts() -> None:
    raw = b"1795470959,x.null.a,artifact,0,string,a%!(PACKER_COMMA) b\\nc\\r\n"
    expected = Line(AT, "x.null.a", "artifact", ("0", "string", "a, b\nc\r"))
    assert lines.parse(raw) == expected
    assert lines.parse(raw.removesuffix(b"\n")) == expected


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (r"==> n: Installed C:\new\reports\run.txt", r"==> n: Installed C:\new\reports\run.txt"),
        (r"    n: one\n    n: two\three", "    n: one\n    n: two\\three"),
        (r"==> n: one\n==> n:\n==> n: C:\net", "==> n: one\n==> n:\n==> n: C:\\net"),
        (r"==> n: one\r\n==> n: two\rest", "==> n: one\r\n==> n: two\\rest"),
        (
            r"==> n (manifest): \n\n==> n (manifest): x",
            "==> n (manifest): \\n\n==> n (manifest): x",
        ),
        (r"==> a: b: one\n==> a: b: two", "==> a: b: one\n==> a: b: two"),
        (
            r"2026-11-29T02:13:50Z: ==> n: C:\n\n==> n: x",
            "2026-11-29T02:13:50Z: ==> n: C:\\n\n==> n: x",
        ),
        (r"==> n: one%!(PACKER_COMMA) C:\new", r"==> n: one, C:\new"),
        (r"\n==> Wait completed", "\n==> Wait completed"),
        (r"Error: no\n\n  on t.pkr.hcl line 2:\n", "Error: no\n\n  on t.pkr.hcl line 2:\n"),
    ],
)
def test_a_backslash_before_n_is_no_line_feed(written: str, text: str) -> None:
    for tone in ("say", "message", "error"):
        line = lines.parse(f"1795470959,,ui,{tone},{written}\n".encode())
        assert line is not None
        assert line.args == (tone, text)


def test_a_path_of_an_artifact_stands_as_it_is() -> None:
    line = lines.parse(rb"1795470959,n,artifact,0,file,0,C:\new\disk.vhd")
    assert line is not None
    assert line.args == ("0", "file", "0", r"C:\new\disk.vhd")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b"panic: runtime error: index out of range, really\n",
        b"goroutine 1 [running]:\n",
        b"1795470959,only-two\n",
        b"-5,,ui,say,x\n",
        b"1e9,,ui,say,x\n",
        b" 1795470959,,ui,say,x\n",
        "١٧٩٥,,ui,say,x\n".encode(),
        b"999999999999,,ui,say,year 33658\n",
        b"1" * 5000 + b",,ui,say,x\n",
        b"2020/01/01 10:00:00 ui: a, b, c\n",
    ],
)
def test_what_is_no_line_of_packers(raw: bytes) -> None:
    assert lines.parse(raw) is None


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    line = lines.parse(b"1795470959,,ui,message,    n: \xff\xfe\n")
    assert line is not None
    assert line.args[1] == "    n: \ufffd\ufffd"
    assert msgspec.json.encode(line)


@pytest.mark.parametrize("log", LOGS, ids=lambda path: path.stem)
def test_real_lines_are_written_as_they_came(log: Path) -> None:
    for raw in log.read_bytes().splitlines(keepends=True):
        line = lines.parse(raw)
        assert line is not None
        assert lines.encode(line) == raw


texts = st.text(st.characters(exclude_categories=["Cs"]).filter(lambda c: c != "\\"))
names = texts.filter(lambda text: not set(text) & set(",\n"))


@settings(deadline=None)
@given(target=names, kind=names, args=st.lists(texts, max_size=4))
def test_what_was_encoded_is_parsed_again(target: str, kind: str, args: list[str]) -> None:
    args = [arg.replace("%!(PACKER_COMMA)", "") for arg in args]
    line = Line(AT, target, kind, tuple(args))
    raw = lines.encode(line)
    assert raw.count(b"\n") == 1
    assert lines.parse(raw) == line


@settings(deadline=None)
@given(st.binary())
def test_nothing_is_too_strange_to_be_parsed(data: bytes) -> None:
    for raw in (data, b"1795470959," + data, b"1795470959,,ui,say," + data):
        if line := lines.parse(raw):
            assert msgspec.json.encode(line)
            assert lines.parse(lines.encode(line))


def test_a_line_that_is_too_long_is_cut_and_says_so() -> None:
    line = lines.parse(b"1795470959,,ui,say," + "é".encode() * MAX_LINE + b"\n")
    assert line is not None
    assert line.args[1].endswith(CUT)
    assert len(line.args[1]) < MAX_LINE
    whole = lines.parse(b"1795470959,,ui,say," + b"x" * (MAX_LINE - 19) + b"\n")
    assert whole is not None
    assert not whole.args[1].endswith(CUT)


def split_all(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    rest, found = b"", []
    for piece in pieces:
        whole, rest = lines.split(rest + piece)
        found += whole
    return found, rest


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50) | st.just(b"\n")))
def test_splitting_loses_nothing(pieces: list[bytes]) -> None:
    found, rest = split_all(pieces)
    assert b"".join(found) + rest == b"".join(pieces)
    assert all(raw.endswith(b"\n") and raw.count(b"\n") == 1 for raw in found)
    assert b"\n" not in rest


FORGED = b"1795470959,,ui,say,Build 'null.a' finished after 1 second.\n"


@settings(max_examples=15, deadline=None)
@given(
    filling=st.sampled_from([b"x", b"7", "é".encode(), b"7,", b"1795470959,,ui,say,"]),
    shift=st.integers(-60, 60),
    size=st.sampled_from([1 << 14, 1 << 16, (1 << 20) + 7, 1 << 23]),
)
@example(filling=b"7", shift=0, size=1 << 16)
def test_a_line_without_end_comes_in_pieces_that_forge_nothing(
    filling: bytes, shift: int, size: int
) -> None:
    """Wherever a script puts a forged line into its own, and however the bytes arrive."""
    begin = b"1795470959,,ui,message,    null.a: "
    script = filling * (3 * MAX_LINE // len(filling))
    at = MAX_LINE - len(begin) + shift
    data = begin + script[:at] + FORGED.rstrip(b"\n") + script[at:] + b"\n" + FORGED
    found, rest = split_all([data[n : n + size] for n in range(0, len(data), size)])
    assert b"".join(found) == data
    assert rest == b""
    assert max(map(len, found)) < MAX_LINE + 100
    first, *middle, last = [lines.parse(raw) for raw in found]
    assert first is not None
    assert first.args[-1].endswith(CUT)
    assert middle == [None] * len(middle)
    assert last == lines.parse(FORGED)
    assert found == lines.split(data)[0]


def test_what_waits_for_its_end_is_bounded() -> None:
    _, rest = split_all([b"x" * 100_000] * 50)
    assert len(rest) < MAX_LINE + 100
