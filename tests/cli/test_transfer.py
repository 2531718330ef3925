"""A state on its way: pull, push, migrate, the Go program's state, and builds that go."""

import json
import shutil
import subprocess
from typing import Any

import pytest

from packer_fork.model import State
from tests.conftest import Cli, Project
from tests.support import killed_migrations, local_states, states
from tests.support.queries import (
    ONE,
    answer,
    answers,
    built,
    changes,
    done,
    done_cached,
    fields,
    is_up_to_date,
    kept,
    refused,
    runs,
    serials,
)
from tests.support.templates import NULL_AND_FILE
from tests.support.terminal import on_terminal

pytestmark = pytest.mark.usefixtures("packer")


def pulled(cli: Cli, project: Project, name: str = "pulled.json", *args: str) -> Any:
    """What `state pull` prints, also written to a file."""
    result = cli("state", "pull", *args)
    assert result.rc == 0, result
    project.write(name, result.out)
    return json.loads(result.out)


def edited(project: Project, document: Any, **changes: Any) -> str:
    project.write("edited.json", json.dumps({**document, **changes}))
    return "edited.json"


def test_pull_and_push_into_an_empty_place(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1", "2")
    document = pulled(cli, project)
    assert set(document) <= fields(State)
    assert "no build differs" in done(cli, "state", "push", "pulled.json")
    assert states.state(cli)["serial"] == document["serial"], "nothing was changed"
    shutil.rmtree(project.root / ".packer-fork")
    refused(cli, "state", "push", "pulled.json", "--yes", rc=2, text="0 states below")
    command = ("state", "push", "t.pkr.hcl", "pulled.json")
    refused(cli, *command, rc=2, text="--yes")
    assert cli("state", "show", "t.pkr.hcl", "--json").out.strip() == "null"
    told = done(cli, *command, "--yes")
    assert "pushed pulled.json to t.pkr.hcl" in told
    after = pulled(cli, project, "after.json")
    for name in ("lineage", "key", "builds", "inputs", "last_run"):
        assert after[name] == document[name]
    assert after["serial"] > document["serial"]
    assert serials(cli)[0] == serials(cli, "push")[0] == after["serial"]
    assert is_up_to_date(cli, "-var", "x=2")
    assert cli("state", "check").rc == 0
    done(cli, "build", "--rebuild", "t.pkr.hcl")
    assert runs(cli) == [3]
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*.*")} == {0o600}


def test_a_document_that_is_edited_changes_just_that(cli: Cli, project: Project) -> None:
    built(cli, project, "1")
    document = pulled(cli, project)
    build = {**document["builds"]["null.n"], "metadata": {"ticket": 7}}
    name = edited(project, document, builds={"null.n": build})
    asked = on_terminal(cli, "state", "push", name, steps=[("Push?", "y\r")]).wait()
    assert asked.rc == 0, asked
    assert "~ null.n: details" in asked.out
    after = states.state(cli)
    assert after["builds"] == {"null.n": build}
    assert after["serial"] == document["serial"] + 1
    (backup,) = answer(cli, "backup", "--list")
    assert (backup["reason"], backup["serial"]) == ("push", document["serial"])
    change = answers(cli, "history", "--limit", "1")[0]
    assert (change["operation"], change["builds"]) == ("push", ["null.n"])
    assert is_up_to_date(cli)
    done(cli, "state", "push", edited(project, {**document, "serial": 99}, builds={}), "--yes")
    assert states.state(cli)["builds"] == {}
    assert states.state(cli)["serial"] == document["serial"] + 2
    done(cli, "build", "t.pkr.hcl")
    assert runs(cli) == [2, 1]


def test_an_older_document_is_refused(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1")
    document = pulled(cli, project)
    done_cached(cli, "build", "--rebuild", "-var", "x=2", "t.pkr.hcl")
    before = states.state(cli)
    files = kept(folder)
    told = refused(
        cli, "state", "push", "pulled.json", "--yes", rc=10, text=f"of serial {document['serial']}"
    )
    assert "pull again" in told
    assert kept(folder) == files
    done(cli, "state", "push", "pulled.json", "--force", "--yes")
    after = states.state(cli)
    assert after["builds"] == document["builds"]
    assert after["serial"] == before["serial"] + 1
    assert after["last_run"] == before["last_run"]
    (backup,) = answer(cli, "backup", "--list")
    assert backup["reason"] == "push"
    done(cli, "state", "restore", backup["path"], "--yes")
    assert states.state(cli)["builds"] == before["builds"], "what was replaced is not lost"


def test_a_document_of_another_state_is_refused(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1")
    document = pulled(cli, project)
    foreign = edited(project, document, lineage="another", serial=999, builds={})
    files = kept(folder)
    refused(cli, "state", "push", foreign, "--yes", rc=10, text="lineage another")
    assert kept(folder) == files
    done(cli, "state", "push", foreign, "--force", "--yes")
    after = states.state(cli)
    assert (after["builds"], after["lineage"]) == ({}, document["lineage"])
    assert after["serial"] == document["serial"] + 1


def test_what_is_no_document_is_named(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1")
    document = pulled(cli, project)
    files = kept(folder)
    project.write("words.txt", "this is no document")
    project.write("empty", "")
    project.write("list.json", "[1, 2]")
    project.write("deep.json", "[" * 100_000)
    (project.root / "bytes").write_bytes(b"\x00\xff{}" * 100)
    (project.root / "folder").mkdir()
    for name in ("words.txt", "empty", "list.json", "deep.json", "bytes", "missing", "folder"):
        told = refused(cli, "state", "push", name, "--yes", rc=2, text=name)
        assert told.count("\n") <= 2
    build = document["builds"]["null.n"]
    wrong: list[dict[str, Any]] = [
        {"serial": "seven"},
        {"surprise": 1},
        {"builds": {"null.n": {**build, "name": "null.m"}}},
        {"builds": {"null.n": {**build, "status": "splendid"}}},
        {"builds": {"null.n": {**build, "surprise": 1}}},
    ]
    for change in wrong:
        name = edited(project, document, **change)
        refused(cli, "state", "push", name, "--yes", rc=2, text="edited.json")
    for extra in ({}, {"surprise": 1}):
        name = edited(project, document, version=99, **extra)
        told = refused(cli, "state", "push", name, "--yes", rc=10, text="edited.json")
        assert "format version 99" in told
    assert kept(folder) == files


def test_what_was_shown_has_no_key_and_is_no_whole_state(cli: Cli, project: Project) -> None:
    """Without a key digests of secrets could be guessed: it is refused, or gets a new one."""
    built(cli, project, "1")
    project.write("shown.json", cli("state", "show", "t.pkr.hcl", "--json").out)
    shutil.rmtree(project.root / ".packer-fork")
    result = cli("state", "push", "t.pkr.hcl", "shown.json", "--yes")
    if result.rc == 0:
        assert len(pulled(cli, project).get("key", "")) == 64
    else:
        assert result.rc == 2
        assert "shown.json" in result.err


def test_there_is_nothing_to_pull_yet(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", ONE)
    refused(cli, "state", "pull", "t.pkr.hcl", rc=10, text="t.pkr.hcl has no state yet")
    assert not (project.root / ".packer-fork").exists()


def test_migrate_takes_state_history_and_logs_along(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1")
    done_cached(cli, "build", "-var", "x=2", "t.pkr.hcl")
    there = project.root / "there"
    told = done(cli, "state", "migrate", "--to", "there")
    assert "read back" in told
    assert "--state there" in told
    target = there / "t.pkr.hcl" / "default"
    assert f"{folder} keeps its copy" in told
    assert answer(cli, "show", "t.pkr.hcl", "--state", "there") == states.state(cli)
    change = answers(cli, "history", "t.pkr.hcl", "--limit", "1")[0]
    assert (change["operation"], change["why"]) == ("migrate", f"to {target}")
    assert changes(cli, "--state", "there") == changes(cli)
    assert runs(cli, "--state", "there") == [2, 1]
    assert is_up_to_date(cli, "-var", "x=2", "--state", "there")
    assert cli("state", "check", "t.pkr.hcl", "--state", "there").rc == 0
    for name in ("1-1.log", "2-1.log"):
        assert (target / "logs" / name).read_bytes() == (folder / "logs" / name).read_bytes()
    assert cli("logs", "t.pkr.hcl", "--state", "there").out == cli("logs", "t.pkr.hcl").out
    modes = {path.stat().st_mode & 0o777 for path in target.rglob("*") if path.is_file()}
    assert modes == {0o600}
    refuse_to_migrate_twice(cli, project)


def refuse_to_migrate_twice(cli: Cli, project: Project) -> None:
    """As long as nothing was done there it goes on; then that is a state of its own."""
    done(cli, "state", "migrate", "t.pkr.hcl", "--to", "there")
    assert changes(cli, "--state", "there") == changes(cli)
    command = ("state", "migrate", "t.pkr.hcl", "--to", "there")
    refused(cli, *command, "--state", "there", rc=2, text="already")
    done(cli, "build", "--rebuild", "--state", "there", "t.pkr.hcl")
    assert runs(cli, "--state", "there") == [3, 2, 1]
    before = kept(project.root)
    refused(cli, *command, rc=10, text="has another state")
    assert kept(project.root) == before


def test_a_place_with_another_state_is_left_alone(cli: Cli, project: Project) -> None:
    built(cli, project, "1")
    project.write("never.pkr.hcl", ONE)
    done(cli, "build", "--state", "there", "t.pkr.hcl")
    before = kept(project.root)
    command = ("state", "migrate", "t.pkr.hcl", "--to", "there")
    refused(cli, *command, rc=10, text="nothing was copied")
    command = ("state", "migrate", "never.pkr.hcl", "--to", "there")
    refused(cli, *command, rc=10, text="never.pkr.hcl has no state to migrate")
    after = kept(project.root)
    assert {name: after[name] for name in before} == before
    assert all(".packer-fork/never" in name for name in after.keys() - before.keys())


def test_a_migrated_state_is_found_by_the_template_as_it_is_now(cli: Cli, project: Project) -> None:
    """Its identity has changed since it was first built: by now it lies in a checkout."""
    project.write("images/t.pkr.hcl", ONE)
    done(cli, "build", "images/t.pkr.hcl")
    here = answer(cli, "show", "images/t.pkr.hcl")
    subprocess.run(["git", "init", "--quiet", str(project.root)], check=True)
    done(cli, "state", "migrate", "images/t.pkr.hcl", "--to", "there")
    there = answer(cli, "show", "images/t.pkr.hcl", "--state", "there")
    assert there is not None
    assert there["builds"] == here["builds"]


@pytest.mark.usefixtures("strace")
def test_migrate_goes_on_where_it_was_killed(cli: Cli, project: Project) -> None:
    """At some of its calls; stress/test_migrate.py kills at each."""
    built(cli, project, "1")
    assert killed_migrations.migrate(cli, step=5) > 2


NEVER = "0001-01-01T00:00:00Z"
SECRETS = ("hunter2-of-the-database", "AKIA-not-for-everyone")

GO_PROGRAM: dict[str, Any] = {
    "version": 4,
    "serial": 17,
    "lineage": "3f2a7c1e-go",
    "builder_version": "0.9.1",
    "packer_version": "1.6.6",
    "template": {
        "path": "t.pkr.hcl",
        "hash": "sha256:0123",
        "variables": {"password": SECRETS[0], "access_key": SECRETS[1], "count": 3, "none": None},
        "files": None,
    },
    "builds": {
        "file.f": {
            "name": "file.f",
            "type": "file",
            "status": "complete",
            "instance": None,
            "provisioners": [
                {
                    "type": "shell-local",
                    "status": "complete",
                    "started_at": "2024-03-02T10:00:01.123456789+01:00",
                    "completed_at": "2024-03-02T10:00:02+01:00",
                }
            ],
            "post_processors": None,
            "artifacts": [{"id": "File", "builder_id": "packer.file", "files": ["out.txt"]}],
            "error": "",
            "started_at": "2024-03-02T10:00:00+01:00",
            "completed_at": "2024-03-02T10:00:03+01:00",
        },
        "null.n": {
            "name": "null.n",
            "type": "null",
            "status": "failed",
            "instance": {
                "id": "i-0123",
                "provider": "amazon",
                "region": "eu-west-1",
                "public_ip": "192.0.2.7",
                "ssh_user": "ubuntu",
                "ssh_port": 22,
            },
            "provisioners": [
                {"type": "shell", "status": "failed", "started_at": NEVER, "completed_at": NEVER}
            ],
            "post_processors": [],
            "artifacts": None,
            "error": "ssh: handshake failed",
            "started_at": "2024-03-02T09:00:00Z",
            "completed_at": NEVER,
        },
        "null.gone": {
            "name": "null.gone",
            "type": "null",
            "status": "provisioning",
            "instance": None,
            "provisioners": None,
            "post_processors": None,
            "artifacts": None,
            "error": "",
            "started_at": NEVER,
            "completed_at": NEVER,
        },
    },
    "last_run": "2024-03-02T10:00:03+01:00",
}


def go_state(project: Project, **changes: Any) -> str:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    project.write(".packer.d/builder-state.json", json.dumps({**GO_PROGRAM, **changes}, indent=2))
    return ".packer.d/builder-state.json"


def test_import_takes_over_what_the_go_program_knew(cli: Cli, project: Project) -> None:
    told = done(cli, "state", "import", go_state(project))
    assert "imported 3 builds into the state of t.pkr.hcl" in told
    builds = states.state(cli)["builds"]
    assert {name: build["status"] for name, build in builds.items()} == {
        "file.f": "complete",
        "null.n": "failed",
        "null.gone": "interrupted",
    }
    complete, failed, stopped = (builds[name] for name in ("file.f", "null.n", "null.gone"))
    assert (complete["started"], complete["ended"]) == (
        "2024-03-02T10:00:00+01:00",
        "2024-03-02T10:00:03+01:00",
    )
    assert complete["artifacts"][0]["files"] == [{"path": "out.txt"}]
    assert "ended" not in failed, "Go's zero time is never"
    assert failed["error"] == "ssh: handshake failed"
    assert failed["instance"] == {
        "id": "i-0123",
        "provider": "amazon",
        "region": "eu-west-1",
        "addresses": ["192.0.2.7"],
        "user": "ubuntu",
        "port": 22,
    }
    assert "started" not in stopped
    assert "provisioning" in stopped["error"]
    origin = complete["metadata"]["imported"]
    assert (origin["lineage"], origin["serial"]) == ("3f2a7c1e-go", 17)
    assert set(origin["variables"]) == {"password", "access_key", "count", "none"}
    assert_hidden(cli, project)


def assert_hidden(cli: Cli, project: Project) -> None:
    """No value of a variable is kept or shown, not even in a digest that needs no key."""
    from hashlib import sha256

    words = [word.encode() for word in SECRETS]
    words += [sha256(word).hexdigest().encode() for word in words]
    words += [sha256(b'"%s"' % word).hexdigest().encode() for word in words[:2]]
    files = kept(project.root / ".packer-fork")
    assert len(files) > 2
    shown = cli("state", "show", "--json").out + cli("state", "history", "--json").out
    found = [data for data in (*files.values(), shown.encode()) if any(w in data for w in words)]
    assert found == []


def test_what_is_imported_is_built_again(cli: Cli, project: Project) -> None:
    file = go_state(project)
    project.write("out.txt", "hello")
    done(cli, "state", "import", file)
    warned = cli("build", "t.pkr.hcl")
    assert warned.rc == 0
    assert "2 to build, 0 up to date" in warned.err
    assert "may have left amazon eu-west-1 i-0123 192.0.2.7 behind" in warned.err
    before = states.state(cli)
    told = done(cli, "state", "import", file)
    assert "imported 0 builds" in told
    assert "file.f is in the state already and was not imported" in told
    assert states.state(cli)["builds"] == before["builds"]
    newest = answer(cli, "backup", "--list")[-1]
    assert (newest["reason"], newest["serial"]) == ("import", before["serial"])
    assert is_up_to_date(cli)
    assert cli("state", "check").rc == 0
    take_out(cli)


def take_out(cli: Cli) -> None:
    """Builds go out of the state, but not what only they tell of."""
    refused(cli, "state", "rm", "--build", "null.gone", rc=2, text="--yes")
    for asked in ((), ("--yes",)):  # what cannot be done is not asked for
        command = ("state", "rm", "--build", "null.n", *asked)
        refused(cli, *command, rc=2, text="state rm --instance i-0123")
        refused(cli, "state", "rm", "--build", "null.x", *asked, rc=2, text="Did you mean ")
    refused(cli, "state", "rm", "--yes", rc=2, text="nothing to remove is named")
    assert set(states.state(cli)["builds"]) == {"file.f", "null.n", "null.gone"}
    serial = states.state(cli)["serial"]
    told = done(cli, "state", "rm", "--build", "null.gone", "--yes")
    backup = answer(cli, "backup", "--list")[-1]
    assert (backup["reason"], backup["serial"]) == ("rm", serial)
    assert backup["path"] in told
    done(cli, "state", "rm", "--instance", "i-0123")
    done(cli, "state", "rm", "--build", "null.n", "--yes")
    assert set(states.state(cli)["builds"]) == {"file.f"}
    assert answer(cli, "show", "--serial", str(serial), "--build", "null.gone")
    assert "1 to build, 1 up to date" in cli("plan", "t.pkr.hcl").out


def test_values_of_variables_in_words_of_the_go_program(cli: Cli, project: Project) -> None:
    """It quoted them in its errors, and noted them with the machine."""
    build = {
        **GO_PROGRAM["builds"]["null.n"],
        "error": f"login with {SECRETS[0]} failed",
        "instance": {"id": "i-1", "user_data": f"export KEY={SECRETS[1]}"},
    }
    done(cli, "state", "import", go_state(project, builds={"null.n": build}))
    assert_hidden(cli, project)


def test_what_is_no_state_of_the_go_program(cli: Cli, project: Project) -> None:
    project.write("words.json", "this is no state")
    project.write("list.json", "[]")
    wrong: list[dict[str, Any]] = [{"builds": {"a": 1}}, {"serial": "x"}]
    for change in wrong:
        file = go_state(project, **change)
        refused(cli, "state", "import", file, rc=2, text=f"{file} is not a state of the Go program")
    for name in ("words.json", "list.json", "missing.json", ".packer.d"):
        refused(cli, "state", "import", name, rc=2, text=name)
    moved = go_state(project, template={"path": "moved.pkr.hcl"})
    refused(cli, "state", "import", moved, rc=2, text="'moved.pkr.hcl', which does not exist")
    assert not (project.root / ".packer-fork").exists()
    done(cli, "state", "import", "t.pkr.hcl", moved)
    assert len(states.state(cli)["builds"]) == 3


def test_a_go_program_that_never_built_anything(cli: Cli, project: Project) -> None:
    """Its maps are null where nothing was put into them."""
    template = {"path": "t.pkr.hcl", "hash": "", "variables": None, "files": None}
    file = go_state(project, builds=None, template=template, last_run=None)
    assert "imported 0 builds" in done(cli, "state", "import", file)


def test_the_history_of_a_large_state_comes_along_whole(cli: Cli, project: Project) -> None:
    """Its last changes stand behind a snapshot that is too large to be made anew each time."""
    project.write("t.pkr.hcl", ONE)
    local_states.large(states.folder(project.root), 20_000)
    before = serials(cli)
    assert len(before) > 15
    done(cli, "state", "backup", "t.pkr.hcl", "--to", "whole.tar")
    done(cli, "state", "migrate", "t.pkr.hcl", "--to", "there")
    there = {**cli.environment, "PACKER_FORK_STATE": str(project.root / "there")}
    assert serials(cli._replace(environment=there))[-len(before) :] == before
    elsewhere = {**cli.environment, "PACKER_FORK_WORKSPACE": "restored"}
    restored = cli._replace(environment=elsewhere)
    done(restored, "state", "restore", "t.pkr.hcl", "whole.tar", "--yes")
    assert serials(restored)[-len(before) :] == before
