"""How often Packer is asked for values, and for which."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from packer_fork.inputs import evaluated
from packer_fork.inputs.cache import DigestCache
from packer_fork.inputs.request import InputsRequest
from packer_fork.template.reader import read

TEMPLATE = """
variable "a" {}
locals { b = var.a == "" ? upper("b") : lower("c") }
source "null" "n" { some_file = local.b }
"""
DATA = 'data "null" "d" { input = "x" }\n'
WHOLE, PARTS = {"var.a", "local.b"}, {'upper("b")', 'lower("c")'}
DEFINITION = 'var.a == "" ? upper("b") : lower("c")'


@pytest.mark.parametrize(
    ("template", "known", "questions"),
    [
        (TEMPLATE, WHOLE, [WHOLE]),
        (TEMPLATE, {"var.a"}, [WHOLE, {DEFINITION}, PARTS]),
        (TEMPLATE, {"local.b"}, [WHOLE]),
        (TEMPLATE, set(), [WHOLE, PARTS]),
        (DATA + TEMPLATE, {"var.a"}, [WHOLE | PARTS | {DEFINITION}]),
    ],
)
def test_parts_are_asked_for_where_the_whole_has_no_value(
    tmp_path: Path, template: str, known: set[str], questions: list[set[str]]
) -> None:
    asked: list[set[str]] = []

    def evaluate(expressions: Mapping[str, str]) -> Mapping[str, object]:
        asked.append(set(expressions))
        return dict.fromkeys(expressions.keys() & known, "value")

    path = tmp_path / "t.pkr.hcl"
    path.write_text(template)
    request = InputsRequest(
        template=read(str(path)),
        builds={},
        root=tmp_path,
        directory=tmp_path,
        key=b"",
        evaluate=evaluate,
        environ={},
        packer_version="1",
        cache=DigestCache(None),
    )
    evaluated.values(request, request.template.contents)
    assert asked == questions
