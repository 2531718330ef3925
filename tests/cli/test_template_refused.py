"""What Packer would not build, `plan` and `build` refuse alike, before anything is written."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from packer_fork.errors import EXIT_DONE, EXIT_PACKER_FAILED, EXIT_TEMPLATE, EXIT_TO_BUILD
from packer_fork.packer import program
from tests.conftest import Cli, Project, eventually
from tests.support import states
from tests.support.templates import GATED, begun, go_on

pytestmark = pytest.mark.usefixtures("packer")

NO_INPUTS = {
    *("syntax", "undeclared -var", "missing var file", "no build block", "-only", "-except"),
    *("build block of several", "-only that is no pattern", "json: syntax", "json: -only"),
}
"""Of these not all builds are known, so that `inputs` refuses them too."""

NULL = 'source "null" "n" { communicator = "none" }\n'
HCL = f'{NULL}build {{ sources = ["null.n"] }}\n'


class Refused(NamedTuple):
    """A template, and what of the message names its fault."""

    template: str
    message: str
    arguments: tuple[str, ...] = ()
    name: str = "t.pkr.hcl"


def in_json(**parts: object) -> str:
    builders = [{"type": "null", "communicator": "none"}]
    return json.dumps({"builders": builders, **parts})


def shell(**parts: object) -> list[object]:
    return [{"type": "shell-local", **parts}]


REFUSED: Mapping[str, Refused] = {
    "syntax": Refused(f"{HCL}source {{", "t.pkr.hcl line 3"),
    "undefined variable": Refused(
        f'{HCL}build {{\n  sources = ["null.n"]\n  name = var.x\n}}', "t.pkr.hcl line 5"
    ),
    "build block of several": Refused(
        f'{HCL}build {{\n  name = "b"\n  sources = ["null.n"]\n  dynamic "provisioner" {{\n'
        '    for_each = local.none\n    labels = ["shell-local"]\n    content {}\n  }\n}',
        "t.pkr.hcl line",
    ),
    "unset variable": Refused(f'variable "x" {{}}\n{HCL}', 'Unset variable "x"'),
    "undeclared -var": Refused(HCL, 'A "y" variable', ("-var", "y=1")),
    "missing var file": Refused(HCL, "no.pkrvars.hcl", ("-var-file", "no.pkrvars.hcl")),
    "undeclared source": Refused('build { sources = ["null.n"] }', "Unknown source null.n"),
    "unknown source type": Refused(
        'source "no-such" "n" {}\nbuild { sources = ["no-such.n"] }', "no-such"
    ),
    "missing plugin": Refused(
        'packer {\n  required_plugins {\n    x = {\n      version = ">= 1.0.0"\n'
        f'      source = "github.com/example/x"\n    }}\n  }}\n}}\n{HCL}',
        "Packer refuses t.pkr.hcl",
    ),
    "another Packer": Refused('packer {\n  required_version = ">= 99.0.0"\n}\n' + HCL, "99.0.0"),
    "unsupported argument": Refused(
        HCL.replace("{", "{\n  bogus = 1\n ", 1).replace("}", "\n}", 1), "t.pkr.hcl line 2"
    ),
    "missing script": Refused(
        f'{NULL}build {{\n  sources = ["null.n"]\n  provisioner "shell-local" {{\n'
        '    script = "no.sh"\n  }\n}\n',
        "Bad script 'no.sh'",
    ),
    "no build block": Refused(NULL, "no build block has a source"),
    "-only": Refused(HCL, "Its builds are null.n.", ("-only=n",)),
    "-only that is no pattern": Refused(HCL, "[", ("-only=null.[",)),
    "-except": Refused(HCL, "-except=null.*", ("-except=null.*",)),
    "json: syntax": Refused('{"builders": [{"type": "null",}]}', "At line 1", name="t.json"),
    "json: unset variable": Refused(in_json(variables={"x": None}), "not set: x", name="t.json"),
    "json: unknown builder": Refused(
        in_json(builders=[{"type": "no-such"}]), "no-such", name="t.json"
    ),
    "json: missing script": Refused(
        in_json(provisioners=shell(script="no.sh")), "Bad script 'no.sh'", name="t.json"
    ),
    "json: no builder": Refused(in_json(builders=[]), "at least one builder", name="t.json"),
    "json: -only": Refused(in_json(), "Its builds are null.", ("-only=null.n",), "t.json"),
}


def written(project: Project) -> set[Path]:
    return set(project.root.rglob("*"))


@pytest.mark.parametrize("case", REFUSED)
def test_plan_build_and_inputs_refuse_it_alike(cli: Cli, project: Project, case: str) -> None:
    refused = REFUSED[case]
    project.write(refused.name, refused.template)
    before = written(project)
    told = {}
    for command in ("plan", "build", *(("inputs",) if case in NO_INPUTS else ())):
        result = cli(command, *refused.arguments, refused.name)
        assert (result.rc, result.out) == (EXIT_TEMPLATE, ""), (command, result)
        assert refused.message in " ".join(result.err.split()), (command, result)
        assert written(project) == before, command
        told[command] = result.err
    assert told.get("inputs", told["plan"]) == told["plan"]


@pytest.mark.parametrize("case", ["syntax", "unset variable", "-only", "json: unset variable"])
def test_a_refusal_is_an_event_in_json(cli: Cli, project: Project, case: str) -> None:
    refused = REFUSED[case]
    project.write(refused.name, refused.template)
    before = written(project)
    planned = ("plan", "--json", "--detailed-exitcode", *refused.arguments, refused.name)
    result = cli(*planned)
    assert result.rc == EXIT_TEMPLATE, result
    assert refused.message in " ".join(result.err.split()), result
    event = json.loads(result.out)
    assert (event["event"], event["exit_code"]) == ("failed", EXIT_TEMPLATE)
    assert refused.message in " ".join(event["text"].split()) + event.get("hint", "")
    assert written(project) == before


def test_a_folder_that_is_named_like_a_template_is_none(cli: Cli, project: Project) -> None:
    project.write("images/t.pkr.hcl", HCL)
    for name in ("x.pkr.hcl", "x.pkr.json", "x.auto.pkrvars.hcl", "x.auto.pkrvars.json"):
        project.write(f"images/{name}/file", "")
    for command in ("plan", "inputs", "build"):
        assert cli(command, "images").rc == EXIT_DONE, command


@pytest.mark.parametrize("name", ["loop.pkr.hcl", "x" * 300, ""])
def test_what_is_no_template_is_said_to_be_none(cli: Cli, project: Project, name: str) -> None:
    project.write("t.pkr.hcl", HCL)
    loop = project.root / "loop.pkr.hcl"
    loop.symlink_to(loop.name)
    for command in ("plan", "inputs", "build", "artifacts"):
        result = cli(command, name)
        assert (result.rc, result.err.count("There is no template")) == (EXIT_TEMPLATE, 1), result


@pytest.mark.parametrize("name", ["pipe", "/dev/stdin", "/dev/fd/63"])
def test_variables_that_can_be_read_only_once(cli: Cli, project: Project, name: str) -> None:
    project.write("t.json", in_json(variables={"x": None}))
    os.mkfifo(project.root / "pipe")
    for command in ("plan", "inputs", "build"):
        result = cli(command, f"-var-file={name}", "t.json")
        assert (result.rc, result.out) == (EXIT_TEMPLATE, ""), result
        assert f"The variables file {name} can be read only once" in result.err


def test_a_shared_build_refuses_it_too(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", f'variable "x" {{}}\n{HCL}')
    before = written(project)
    result = cli("build", "--share", "t.pkr.hcl")
    assert (result.rc, result.out) == (EXIT_TEMPLATE, ""), result
    assert 'Unset variable "x"' in result.err
    assert written(project) == before


def test_a_refused_build_uses_up_no_run(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", HCL)
    assert cli.cached("build", "t.pkr.hcl").rc == EXIT_DONE
    before = states.state(cli)
    project.write("t.pkr.hcl", f'variable "x" {{}}\n{HCL}')
    assert cli("build", "t.pkr.hcl").rc == EXIT_TEMPLATE
    assert states.state(cli) == before


TWO = """
    source "null" "good" { communicator = "none" }
    source "null" "bad" {
      communicator = "none"
      bogus        = 1
    }
    build {
      name    = "x"
      sources = ["null.good", "null.bad"]
    }
"""


def test_a_build_that_is_refused_leaves_the_others(cli: Cli, project: Project) -> None:
    """As with Packer itself, which builds them and ends with 1; the plan reports both."""
    project.write("t.pkr.hcl", TWO)
    planned = cli("plan", "t.pkr.hcl")
    assert planned.rc == EXIT_TEMPLATE
    assert "x.null.good: build (never built)" in planned.out
    assert 'An argument named "bogus" is not expected here.' in planned.err
    built = cli("build", "t.pkr.hcl")
    assert built.rc == EXIT_PACKER_FAILED
    assert "Packer refuses some of the builds" in built.err
    assert states.statuses(cli) == {"x.null.good": "complete", "x.null.bad": "failed"}


def test_only_what_is_to_be_built_has_to_be_accepted(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", TWO)
    assert cli("plan", "--detailed-exitcode", "-only=x.null.good", "t.pkr.hcl").rc == EXIT_TO_BUILD
    assert cli("build", "-only=*.good", "t.pkr.hcl").rc == EXIT_DONE
    refused = cli("plan", "-only=*.bad", "t.pkr.hcl")
    assert refused.rc == EXIT_TEMPLATE
    assert refused.out == ""


def test_a_message_of_packer_shows_no_secret(cli: Cli, project: Project) -> None:
    project.write(
        "t.pkr.hcl",
        """
        variable "s" {
          sensitive = true
          default   = "hunter2secret" bogus
        }
        """,
    )
    result = cli("plan", "t.pkr.hcl")
    assert result.rc == EXIT_TEMPLATE
    assert "<sensitive>" in result.err
    assert "hunter2secret" not in result.err


def test_a_secret_that_packer_breaks_into_lines_is_masked(cli: Cli, project: Project) -> None:
    words = " ".join(f"word{number}" for number in range(30))
    project.write(
        "t.pkr.hcl",
        f'variable "s" {{\n  default = "{words}"\n  sensitive = true\n}}\n{NULL}build {{\n'
        '  sources = ["null.n"]\n  provisioner "shell-local" {\n    script = var.s\n  }\n}\n',
    )
    result = cli("plan", "t.pkr.hcl")
    assert result.rc == EXIT_TEMPLATE
    assert "Bad script '<sensitive>'" in result.err
    assert "word" not in result.err


@pytest.fixture
def bundled(packer: Path) -> None:
    """For builders that later releases have as plugins of their own."""
    if program.find(str(packer)).version >= (1, 10, 0):
        pytest.skip("this Packer has no qemu builder")


GATED_AND_QEMU = f"""
    source "qemu" "q" {{
      iso_url      = "disk.iso"
      iso_checksum = "none"
      communicator = "none"
    }}
    build {{ sources = ["qemu.q"] }}
    {GATED}
"""
EXISTS = "Output directory 'output-q' already exists"


@pytest.mark.usefixtures("bundled")
def test_an_output_folder_that_exists_refuses_but_by_force(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED_AND_QEMU)
    (project.root / "output-q").mkdir()
    for command in ("plan", "build"):
        refused = cli(command, "-only=qemu.q", "t.pkr.hcl")
        assert refused.rc == EXIT_TEMPLATE
        assert EXISTS in refused.err
        assert "build with -force" in refused.err
    assert not (project.root / ".packer-fork").exists()
    assert cli("plan", "-force", "-only=qemu.q", "t.pkr.hcl").rc == EXIT_DONE


@pytest.mark.usefixtures("bundled")
def test_the_output_folder_of_a_run_under_way_refuses_nothing(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED_AND_QEMU)
    running = begun(cli, project, "-only=null.n", "t.pkr.hcl")
    (project.root / "output-q").mkdir()
    assert cli("plan", "-only=qemu.q", "t.pkr.hcl").rc == EXIT_DONE
    waiting = cli.start("build", "--lock-timeout=60s", "-only=qemu.q", "t.pkr.hcl")
    eventually(lambda: "waiting" in waiting.err())
    go_on(project.root)
    assert running.wait().rc == EXIT_DONE
    result = waiting.wait()
    assert result.rc == EXIT_TEMPLATE, "asked again once nothing is under way"
    assert EXISTS in result.err
    assert states.state(cli)["last_run"]["number"] == 1


def test_what_a_data_source_gives_is_not_refused(cli: Cli, project: Project, packer: Path) -> None:
    if program.find(str(packer)).version < (1, 8, 5):
        pytest.skip("this Packer has no data sources, or cannot run them to validate")
    project.write("s.sh", "#!/bin/sh\n").chmod(0o755)
    template = """
        data "null" "script" { input = "SCRIPT" }
        source "null" "n" { communicator = "none" }
        build {
          sources = ["null.n"]
          provisioner "shell-local" { script = data.null.script.output }
        }
    """
    project.write("t.pkr.hcl", template.replace("SCRIPT", "s.sh"))
    assert cli("plan", "t.pkr.hcl").rc == EXIT_DONE
    assert cli("build", "t.pkr.hcl").rc == EXIT_DONE
    project.write("t.pkr.hcl", template.replace("SCRIPT", "no.sh"))
    assert "Bad script 'no.sh'" in cli("plan", "t.pkr.hcl").err
    away = 'data "http" "away" { url = "http://127.0.0.1:1/" }'
    project.write("t.pkr.hcl", f"{away}\n{template.replace('SCRIPT', 's.sh')}")
    assert "connection refused" in cli("plan", "t.pkr.hcl").err


def counting(project: Project, packer: Path) -> tuple[dict[str, str], Path]:
    """An environment in which each start of Packer leaves a line in a file."""
    log = project.root.parent / "starts"
    wrapper = project.root.parent / "bin" / "packer"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\necho "$1" >> {log}\nexec {packer} "$@"\n')
    wrapper.chmod(0o755)
    return {"PATH": f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}"}, log


@pytest.mark.parametrize("built_before", [False, True])
def test_many_unset_variables_are_found_with_few_questions(
    cli: Cli, project: Project, packer: Path, *, built_before: bool
) -> None:
    if built_before:
        project.write("t.pkr.hcl", HCL)
        assert cli.cached("build", "t.pkr.hcl").rc == EXIT_DONE
    names = [f"v{number}" for number in range(60)]
    unset = "".join(f'variable "{name}" {{ type = string }}\n' for name in names)
    used = ", ".join(f"var.{name}" for name in names)
    step = f'provisioner "shell-local" {{ inline = ["echo", {used}] }}'
    project.write("t.pkr.hcl", f'{unset}{NULL}build {{\n  sources = ["null.n"]\n  {step}\n}}\n')
    environment, log = counting(project, packer)
    for command in ("plan", "build"):
        result = cli(command, "t.pkr.hcl", env=environment)
        assert result.rc == EXIT_TEMPLATE, result
        assert all(f'Unset variable "{name}"' in result.err for name in names)
        assert len(log.read_text().splitlines()) <= 10, log.read_text()
        log.unlink()


def test_nothing_is_asked_of_what_is_up_to_date(cli: Cli, project: Project, packer: Path) -> None:
    project.write("t.pkr.hcl", HCL)
    assert cli.cached("build", "t.pkr.hcl").rc == EXIT_DONE
    environment, log = counting(project, packer)
    for command in ("plan", "build"):
        assert cli(command, "t.pkr.hcl", env=environment).rc == EXIT_DONE
    assert "validate" not in log.read_text().split()
    assert cli("plan", "--max-age=0s", "t.pkr.hcl", env=environment).rc == EXIT_DONE
    assert log.read_text().split().count("validate") == 1


def test_names_that_packer_alone_knows_are_no_empty_list(cli: Cli, project: Project) -> None:
    named = [{"type": "null", "communicator": "none", "name": "{{lower `WEB`}}-x"}]
    project.write("t.json", in_json(builders=named))
    for done in (False, True):
        planned = cli("plan", "--detailed-exitcode", "t.json")
        assert planned.rc == EXIT_TO_BUILD, done
        assert "Packer alone knows the names of its builds" in planned.out
        assert cli("build", "t.json").rc == EXIT_DONE
    both = [*named, {"type": "null", "communicator": "none"}]
    project.write("t.json", in_json(builders=both))
    assert cli("build", "t.json").rc == EXIT_DONE
    planned = cli("plan", "--detailed-exitcode", "t.json")
    assert "null: build (built with those whose names Packer alone knows)" in planned.out
    assert "Packer alone knows the names of its other builds" in planned.out
    assert planned.rc == EXIT_TO_BUILD
    assert cli("plan", "--detailed-exitcode", "-only=null", "t.json").rc == EXIT_DONE
