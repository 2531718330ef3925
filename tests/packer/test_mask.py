from datetime import UTC, datetime

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
        (["   x", "  \t "], "   x", HIDDEN),
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
        number=1, tenure=1, started=datetime.now(UTC), by=actor, builds=("secret",), error="secret"
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
