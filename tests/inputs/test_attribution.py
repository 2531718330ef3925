"""Whose a read is, where one Packer builds several sources."""

import pytest

from packer_fork.inputs.attribution import Text, attribute

NAMED = {
    "web": frozenset(("scripts/web.sh",)),
    "db": frozenset(("scripts/db.sh", "sql/schema.sql")),
    "other": frozenset(("scripts/other.sh",)),
}
READS = ("scripts/web.sh", "scripts/db.sh", "sql/schema.sql", "scripts/common.sh")


def silent(_: str) -> str:
    """What the template says of a build, where that names no file."""
    return ""


def attributed(texts: dict[str, str], *builds: str) -> dict[str, frozenset[str]]:
    return attribute(READS, builds, NAMED, frozenset(), silent, lambda name: texts.get(name, ""))


def test_named_file_counts_for_its_builds_and_an_unnamed_one_for_all() -> None:
    assert attributed({}, "web", "db") == {
        "web": {"scripts/web.sh", "scripts/common.sh"},
        "db": {"scripts/db.sh", "sql/schema.sql", "scripts/common.sh"},
    }


def test_with_one_build_everything_is_its_own() -> None:
    assert attributed({}, "web") == {"web": frozenset(READS)}


def test_file_that_another_builds_script_mentions_counts_for_both() -> None:
    found = attributed({"scripts/web.sh": ". ./scripts/db.sh"}, "web", "db")
    assert found["web"] == {"scripts/web.sh", "scripts/db.sh", "scripts/common.sh"}


@pytest.mark.parametrize("by", ["scripts/db.sh", "scripts/common.sh"])
def test_what_is_mentioned_may_mention_more(by: str) -> None:
    texts = {"scripts/web.sh": "scripts/db.sh", by: "psql < sql/schema.sql"}
    assert "sql/schema.sql" in attributed(texts, "web", "db")["web"]


@pytest.mark.parametrize(
    "text",
    [
        ". scripts/db.sh",
        '. "$DIR/db.sh"',
        "source ./db.sh; true",
        "for f in scripts/*.sh; do . $f; done",
        'for f in "$DIR"/*.sh; do . "$f"; done',
        "cat scripts/d?.sh",
        "cat [a-d]*.sh",
        ". scripts/${name}.sh",
        ". scripts/$name",
        "tar -C scripts -c .",
        "cp -r ./scripts/ /tmp",
        "- import_tasks: scripts/{{ item }}.sh",
        "cd scripts && for f in *; do . ./$f; done",
    ],
)
def test_text_mentions_a_file(text: str) -> None:
    assert Text(text).mentions("scripts/db.sh")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ". scripts/web.sh",
        ". scripts/web-db.sh",
        "cat mydb.sh db.shx",
        "for f in web/*.sh; do . $f; done",
        'case "$1" in a) true;; *) echo "$@" "$*";; esac',
        'echo "$x" ${y}',
        "cp -r ./scripts/web /tmp",
        "cat *.sql",
        "my-scripts/",
    ],
)
def test_text_does_not_mention_a_file(text: str) -> None:
    assert not Text(text).mentions("scripts/db.sh")


def test_module_is_mentioned_by_its_stem() -> None:
    assert Text("import dbtools").mentions("lib/dbtools.py")
    assert not Text("import dbtools").mentions("lib/dbtools.sh")


def test_role_is_mentioned_by_its_folder() -> None:
    assert Text("roles: [db]").mentions("roles/db/tasks/main.yml")


def test_wildcard_of_very_many_parts_is_no_burden() -> None:
    assert Text("*a" * 60).mentions("a" * 200 + "b")


def test_build_with_very_many_inputs_is_taken_to_mention_everything() -> None:
    named = {"a": frozenset(f"{n}" for n in range(3000)), "b": frozenset(("x",))}
    found = attribute(
        ("x",), ("a", "b"), named, frozenset(), silent, lambda _: pytest.fail("not to be read")
    )
    assert found == {"a": {"x"}, "b": {"x"}}


def test_file_that_packer_opens_for_any_build_counts_where_it_is_mentioned() -> None:
    def counted(said: str, script: str) -> bool:
        reads, named = ("conf.txt", "a.sh"), {"a": frozenset(("a.sh",))}
        texts = {"a.sh": script}
        found = attribute(
            reads,
            ("a",),
            named,
            frozenset(("conf.txt",)),
            lambda _: said,
            lambda n: texts.get(n, ""),
        )
        return "conf.txt" in found["a"]

    assert not counted("true", "true")
    assert counted("true", "cat conf.txt")
    assert counted("for f in *.txt; do cat $f; done", "true")
