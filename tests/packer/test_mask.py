from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packer_fork.model import (
    Actor,
    Artifact,
    Build,
    BuildStatus,
    File,
    Instance,
    Run,
    Step,
    StepStatus,
)
from packer_fork.packer.mask import HIDDEN, Mask
from packer_fork.terminal import clean

RECORDINGS = Path(__file__).parent / "recordings"

# No character of <sensitive>: a replacement cannot be part of a value then.
LETTERS = 'abcdABCD01,\n\\"é'
VALUES = st.lists(st.text(LETTERS, min_size=4, max_size=9), max_size=6)


@pytest.mark.parametrize(
    ("values", "text", "masked"),
    [
        ([], "as it is", "as it is"),
        (["secret"], "a secret, secret", f"a {HIDDEN}, {HIDDEN}"),
        (["abc"], "abc is too short", "abc is too short"),
        (["abcd", "abcdef"], "abcdefg", f"{HIDDEN}g"),
        (["abcd", "cdef"], "xabcdefx", f"x{HIDDEN}x"),
        (["abcd"], "abcdabcd", f"{HIDDEN}{HIDDEN}"),
        (["a.*b"], "axxb a.*b", f"axxb {HIDDEN}"),
        (['a"b\\c'], r'{"k": "a\"b\\c"}', f'{{"k": "{HIDDEN}"}}'),
        (["secret"], "se\x1b[1mcret\x1b[0m", HIDDEN),
        (["secret"], "se\x00cret", HIDDEN),
        (["s\x1b[1mecret"], "secret", HIDDEN),
        (["a few  words"], "'a\nfew words': a few\nwords", f"'{HIDDEN}': {HIDDEN}"),
        (["a few words"], r'{"text": "a few\nwords"}', f'{{"text": "{HIDDEN}"}}'),
        (["a  b", "a b c d"], "a  b c\nd, a  b", f"{HIDDEN}, {HIDDEN}"),
        (["a b\tc"], "a b\tc a b c a\tb\tc", f"{HIDDEN} {HIDDEN} {HIDDEN}"),
        (["a few words"], "a fewwords", "a fewwords"),
        (["   x", "  \t "], "   x", "   x"),
        (["admin", "admin-S3cret"], f"login {HIDDEN}-S3cret", f"login {HIDDEN}{HIDDEN}"),
        (["admin", "admin-S3cret"], "login -S3cret", "login -S3cret"),
        (["admin", "admin-S3cret"], f"{HIDDEN}\x1b[0m-S3\x1b[1mcret", HIDDEN * 2),
        (["-", "admin-S3cret"], f"admin{HIDDEN}S3cret", HIDDEN * 3),
        (["{\n-\n}", "ab{cdef-g"], f"ab{HIDDEN}cdef{HIDDEN}g", f"ab{HIDDEN * 3}g"),
        (["b\nc", "first b\nc last"], f"first {HIDDEN} last", HIDDEN * 3),
        (["b\nc", "b long b\nc"], f"b long {HIDDEN}", HIDDEN * 2),
        (["c\nb", "c\nb long b"], f"{HIDDEN} long b", HIDDEN * 2),
        (["ab1", "cd2", "ab1-left-cd2"], f"{HIDDEN}-left-{HIDDEN}", HIDDEN * 3),
        (['a"b', 'a"b and c"d'], rf"{HIDDEN} and c\"d", HIDDEN * 2),
        (["pass", "my pass is long"], f"my {HIDDEN}\nis long", f"my {HIDDEN * 2}"),
        (["ab12", "https://ab12@host"], f"{HIDDEN}, {HIDDEN}@host", f"{HIDDEN}, {HIDDEN * 2}"),
        (["ab12", "https://ab12@host"], "of https://example.org", "of https://example.org"),
    ],
)
def test_text(values: list[str], text: str, masked: str) -> None:
    assert Mask(values).text(text) == masked


def test_text_without_a_secret_keeps_its_control_codes() -> None:
    assert Mask(["secret"]).text("\x1b[1mbold\x1b[0m") == "\x1b[1mbold\x1b[0m"


@settings(deadline=None)
@given(VALUES, st.text(LETTERS))
def test_no_value_is_left(values: list[str], text: str) -> None:
    mask = Mask(values)
    masked = mask.text(text)
    assert not any(value in masked for value in values)
    assert mask.text(masked) == masked


@settings(deadline=None)
@given(VALUES, st.lists(st.text(LETTERS, max_size=3), max_size=4))
def test_every_value_is_found_in_a_line(values: list[str], between: list[str]) -> None:
    text = "".join(part for pair in zip(values, between, strict=False) for part in pair)
    encoded = text.replace(",", "%!(PACKER_COMMA)").replace("\n", "\\n")
    line = Mask(values).line(f"1795444536,,ui,say,{encoded}\n".encode())
    assert line.startswith(b"1795444536,,ui,say,")
    decoded = line.decode().replace("%!(PACKER_COMMA)", ",").replace("\\n", "\n")
    assert not any(value in decoded for value in values)


def hidden_by_packer(text: str, known: list[str]) -> str:
    for value in known:
        text = text.replace(value, HIDDEN)
    return text


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_no_piece_is_left_whatever_packer_hides_first(data: st.DataObject) -> None:
    parts = data.draw(st.lists(st.text("abcd,\n", min_size=1, max_size=5), min_size=1, max_size=5))
    values = data.draw(st.lists(st.lists(st.sampled_from(parts)).map("".join), max_size=6))
    known = sorted({part for value in values for part in (value, *value.split("\n")) if part})
    order = data.draw(st.permutations(known))
    given = [hidden_by_packer(value, order[: data.draw(st.integers(0, 9))]) for value in values]
    lines = [line for text in given for part in text.split(HIDDEN) for line in part.split("\n")]
    for text in filter(lambda text: HIDDEN in text, given):
        masked = Mask(known).text(f"!{text}!")
        assert not any(line in masked for line in lines if len(line) >= 4)
        encoded = text.replace(",", "%!(PACKER_COMMA)").replace("\n", "\\n")
        printed = Mask(known).line(f"17,,ui,say,!{encoded}!\n".encode()).decode()
        shown = printed.replace("%!(PACKER_COMMA)", ",").replace("\\n", "\n")
        assert not any(line in shown for line in lines if len(line) >= 4)


def test_a_recording_with_one_secret_in_another() -> None:
    mask = Mask(["admin", "admin-S3cretPass99"])
    recorded = (RECORDINGS / "build-nested-secrets.out").read_bytes().splitlines(keepends=True)
    masked = [mask.line(line) for line in recorded]
    changed = [(a, b) for a, b in zip(recorded, masked, strict=True) if a != b]
    before = b"1795919481,,ui,say,==> null.a: login <sensitive>-S3cretPass99\n"
    after = b"1795919481,,ui,say,==> null.a: login <sensitive><sensitive>\n"
    assert changed == [(before, after)]


def test_a_key_of_many_lines_has_no_pieces() -> None:
    key = "\n".join(f"{number:064x}" for number in range(2000))
    assert Mask([key]).text(f"a {HIDDEN}\nline\n{key}\n") == f"a {HIDDEN}\nline\n{HIDDEN}\n"


def test_too_many_pieces_hide_whole_lines() -> None:
    long = "-".join(f"{number:04}" for number in range(1000))
    mask = Mask([long, "-", *(f"{number:04}" for number in range(0, 1000, 5))])
    text = f"a line\nother {HIDDEN}0001 line\n"
    assert mask.text(text) == f"a line\n{HIDDEN}\n"
    assert mask.text(f"before {long} after") == HIDDEN
    assert mask.line(b"17,,ui,say,a <sensitive>0001 b\n") == b"17,,ui,say,<sensitive>\n"
    assert mask.line(b"17,n,artifact,0,id,x<sensitive>\n") == b"17,n,artifact,0,id,<sensitive>\n"
    assert mask.line(b"panic, x<sensitive>\n") == b"<sensitive>\n"
    assert mask.line(b"17,,ui,say,no secret\n") == b"17,,ui,say,no secret\n"


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        (b"1795,null.1795,ui,message,1795 message\n", b"1795,null.1795,ui,message,%s %s\n"),
        (b"1795,null.a,artifact,0,id,1795\n", b"1795,null.a,artifact,0,id,%s\n"),
        (b"1795,,ui,say,x%!(PACKER_COMMA)y\\nz\xff\n", b"1795,,ui,say,%s\xff\n"),
        (b"panic: 1795 in message\n", b"panic: %s in %s\n"),
        (b"1795,1795 no line of Packer", b"%s,%s no line of Packer"),
        (b"1795,,ui,error,stat a few\\nwords: no\n", b"1795,,ui,error,stat %s: no\n"),
    ],
)
def test_line(line: bytes, masked: bytes) -> None:
    hidden = HIDDEN.encode()
    result = Mask(["1795", "message", "x,y\nz", "a few words"]).line(line)
    assert result == masked.replace(b"%s", hidden)


def test_document() -> None:
    build = Build(
        name="null.secret",
        type="secret",
        status=BuildStatus.COMPLETE,
        inputs="secret",
        provisioners=(Step(type="secret", status=StepStatus.COMPLETE, error="a secret"),),
        instance=Instance(id="i-secret", addresses=("secret",), metadata={"secret": ["secret"]}),
        artifacts=(
            Artifact(id="secret", files=(File(path="/secret/x", sha256="secret", size=4),)),
        ),
        error="the secret and complete",
        metadata={"a": {"secret": [1, None, "secret"]}},
    )
    expected = Build(
        name="null.secret",
        type="secret",
        status=BuildStatus.COMPLETE,
        inputs="secret",
        provisioners=(Step(type="secret", status=StepStatus.COMPLETE, error=f"a {HIDDEN}"),),
        instance=Instance(id=f"i-{HIDDEN}", addresses=(HIDDEN,), metadata={HIDDEN: [HIDDEN]}),
        artifacts=(
            Artifact(id=HIDDEN, files=(File(path=f"/{HIDDEN}/x", sha256="secret", size=4),)),
        ),
        error=f"the {HIDDEN} and {HIDDEN}",
        metadata={"a": {HIDDEN: [1, None, HIDDEN]}},
    )
    assert Mask(["secret", "complete"]).document(build) == expected
    assert build.error == "the secret and complete"


def test_document_of_a_run() -> None:
    actor = Actor(user="me", host="here", pid=1)
    run = Run(
        number=1, token=1, started=datetime.now(UTC), by=actor, builds=("secret",), error="secret"
    )
    masked = Mask(["secret"]).document(run)
    assert (masked.builds, masked.error, masked.by) == (("secret",), HIDDEN, actor)


def test_thousands_of_values() -> None:
    values = [f"value-{n:05}-{n * 7919}" for n in range(5000)]
    mask = Mask(values)
    assert mask.text(" ".join(values)) == " ".join([HIDDEN] * 5000)


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq payload\x1b\\after", "after"),
        ("\x9b31mred", "red"),
        ("\x1b[31", ""),
        ("\x1b]unterminated\nnext line", "\nnext line"),
        ("\x1b\x1b[31m[31m", "[31m"),
        ("\x1b[\x1b[31m31m", "31m"),
        ("10%\r20%\r\ndone", "10%\n20%\ndone"),
        ("a\x00\x08\x7f\x85b", "ab"),
        ("\u202eevil\u202c \u2066x\u2069", "evil x"),
        ("\ud800x\udfff", "x"),
        ("[bold]é 日本 🎉", "[bold]é 日本 🎉"),
    ],
)
def test_clean(text: str, harmless: str) -> None:
    assert clean(text) == harmless


NASTY = st.text(
    st.one_of(st.sampled_from("\x1b[]P\\;m0\x07\x9b\x9c\x9d\r\n\u202e\ud800"), st.characters())
)


@settings(deadline=None)
@given(NASTY)
def test_clean_text_is_clean_for_good(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    for character in cleaned:
        code = ord(character)
        assert character in "\t\n" or not (code < 0x20 or 0x7F <= code < 0xA0)
        assert not 0x202A <= code <= 0x202E
        assert not 0x2066 <= code <= 0x2069
        assert not 0xD800 <= code <= 0xDFFF
