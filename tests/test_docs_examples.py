"""Every example of README.md and the docs runs: as it stands, or as far as it can."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from packer_fork import config, errors, locks
from packer_fork.manager.state.artifacts import BuiltArtifacts, flat
from packer_fork.model import Artifact
from packer_fork.stores import bucket
from packer_fork.stores.access import BucketAddress, parse_address, parse_bucket_address
from tests.conftest import Cli, Project, eventually
from tests.support.docs import ROOT, example, examples, lasting, ours, transcript
from tests.support.states import folder, status
from tests.support.templates import GATED, begun, go_on

OUTPUT = {"text"}
"""Languages of what programs said, beside the example that made them say so."""

PROGRAM = f'packer-fork() {{ {shlex.quote(sys.executable)} -m packer_fork "$@"; }}'
"""For a shell."""

FILE = """
    source "file" "web" {
      content = "web"
      target  = "web.txt"
    }
    build { sources = ["file.web"] }
"""

RUN_BY = {
    "story": "test_the_story_is_true",
    "make": "test_what_make_is_asked_for_exists",
    "completion": "test_a_tab_in_a_real_shell",
    "transcript": "test_the_transcripts_are_true",
    "plan": "test_the_transcripts_are_true",
    "github": "test_the_workflow_gives_the_action_what_it_takes",
    "gitlab": "test_the_job_of_gitlab_runs",
    "jenkins": "test_the_pipeline_of_jenkins_runs",
    "buildkite": "test_the_step_of_buildkite_runs",
    "cron": "test_the_line_of_cron_runs",
    "exclude": "test_the_exclusions_are_valid",
    "artifact check": "test_the_check_of_an_artifact_is_valid",
    "settings": "test_the_example_of_settings_is_valid",
    "shared store": "test_the_settings_of_a_shared_store_are_valid",
    "bucket": "test_the_settings_of_a_bucket_are_valid",
    "bucket policy": "test_the_policy_allows_what_a_bucket_asks_for",
    "share": "test_a_command_line_in_the_text_exists",
    "branch": "test_a_branch_has_a_workspace_of_its_own",
    "branch from main": "test_a_branch_has_a_workspace_of_its_own",
    "fetched": "test_the_commands_that_track_what_is_fetched_are_valid",
    "terraform": "test_terraform_finds_the_image",
    "back": "test_going_back_is_as_it_is_shown",
    "backup": "test_a_backup_is_made_and_restored_by_these_commands",
    "inputs": "test_what_counts_is_listed_as_it_is_shown",
    "statuses": "test_the_page_for_operators_shows_what_they_see",
    "damaged": "test_a_damaged_state_is_told_of_and_repaired_as_it_is_shown",
    "alerts": "test_alerts_ask_for_what_there_is",
    "python": "test_the_example_in_python_prints_what_it_says",
    "lock json": "test_the_examples_of_json_are_what_they_say",
    "state json": "test_the_examples_of_json_are_what_they_say",
    "digest": "test_a_digest_is_checked_without_this_program",
}
"""By the name in the comment above an example: the test that runs it."""


def shell(cli: Cli, script: str, **environ: str) -> str:
    """What bash says of it, with `packer-fork` on its path. It must end well."""
    done = subprocess.run(
        ("bash", "-euo", "pipefail", "-c", f"{PROGRAM}\n{script}"),
        cwd=cli.cwd,
        env={**cli.environment, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_commands_that_track_what_is_fetched_are_valid(project: Project) -> None:
    project.write("packer-fork.toml", example("fetched"))
    settings, _ = config.load(project.root, {}, {})
    assert [command[0] for command in settings.input_commands] == ["aws", "gcloud", "docker", "git"]


def on_branch(project: Project, name: str) -> None:
    for words in (("init", "-q", "-b", name), ("commit", "-q", "--allow-empty", "-m", "x")):
        who = ("-c", "user.name=ana", "-c", "user.email=ana@example.org")
        subprocess.run(("git", *who, *words), cwd=project.root, check=True)


def test_every_example_is_run() -> None:
    found = [each for each in examples() if each.language not in OUTPUT]
    assert sorted(each.name for each in found) == sorted(RUN_BY)
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    missing = {name for name in RUN_BY.values() if f"\ndef {name}(" not in tests}
    assert not missing


@pytest.mark.parametrize(
    "text", [pytest.param(e.text, id=e.name) for e in examples() if e.language == "yaml"]
)
def test_yaml_is_indented_level_by_level(text: str) -> None:
    assert "\t" not in text
    level = 0
    for line in filter(str.strip, text.splitlines()):
        indent = len(line) - len(line.lstrip())
        assert indent in range(0, level + 3, 2), line
        level = indent + (2 if line.lstrip().startswith("- ") else 0)


def test_what_make_is_asked_for_exists() -> None:
    targets = re.findall(r"^make (\S+)", example("make"), re.MULTILINE)
    known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets
    assert set(targets) <= set(known)


@pytest.mark.usefixtures("packer")
def test_the_story_is_true(cli: Cli, project: Project) -> None:
    project.example("images")
    down, up, idle = transcript("story")
    failed = cli(*down.words[1:], env={"MIRROR_DOWN": "db"})
    assert (failed.rc, lasting(failed.err)) == (1, lasting(ours(down.said)))
    mended = cli(*up.words[1:])
    assert (mended.rc, lasting(mended.err)) == (0, lasting(ours(up.said)))
    nothing = cli(*idle.words[1:])
    assert (nothing.rc, lasting(nothing.err)) == (0, lasting(idle.said))


def test_the_settings_of_a_shared_store_are_valid(tmp_path: Path) -> None:
    (tmp_path / config.FILE_NAME).write_text(example("shared store"))
    found, _ = config.load(tmp_path, {}, {})
    assert parse_address(str(found.state)).scheme == "etcds"
    assert found.project == "web"


def bucket_address(folder: Path) -> BucketAddress:
    (folder / config.FILE_NAME).write_text(example("bucket"))
    found, _ = config.load(folder, {}, {})
    assert found.project == "web"
    return parse_bucket_address(found.state, {})


def test_the_settings_of_a_bucket_are_valid(tmp_path: Path) -> None:
    assert bucket_address(tmp_path) == BucketAddress("acme-images", "images")


def test_the_policy_allows_what_a_bucket_asks_for(tmp_path: Path) -> None:
    address = bucket_address(tmp_path)
    objects, listing = msgspec.json.decode(example("bucket policy"))["Statement"]
    named = set(re.findall(r"s3:[A-Za-z]+", bucket._GRANT))
    assert {*objects["Action"], listing["Action"]} == named
    assert objects["Resource"] == f"arn:aws:s3:::{address.bucket}/{address.prefix}/*"
    assert listing["Resource"] == f"arn:aws:s3:::{address.bucket}"


@pytest.mark.usefixtures("packer")
def test_a_branch_has_a_workspace_of_its_own(cli: Cli, project: Project) -> None:
    project.example("demo")
    on_branch(project, "feature/new-db")
    told = cli.cached("build", "demo.pkr.hcl")
    assert told.rc == 0, told
    first, further = example("branch").splitlines()[0], example("branch from main")
    assert "everything is up to date" in shell(cli, f"{first}\n{further}")
    shell(cli, example("branch"))
    assert (folder(project.root, "demo.pkr.hcl", "feature-new-db") / "state.json").exists()


@pytest.mark.usefixtures("packer")
def test_terraform_finds_the_image(cli: Cli, project: Project) -> None:
    text = example("terraform")
    (program,) = re.findall(r"^ *program = (\[.*\])$", text, re.MULTILINE)
    name, *arguments = msgspec.json.decode(program, type=list[str])
    (project.root / "images").mkdir()
    project.write("images/web.pkr.hcl", FILE)
    on_branch(project, "main")
    assert cli("build", arguments[-1]).rc == 0
    found = msgspec.json.decode(cli(*arguments).out, type=dict[str, str])
    assert (name, found["file.web.run"]) == ("packer-fork", "1")
    (key,) = re.findall(r'result\["(.*)"\]', text)
    image = Artifact(id="eu-west-1:ami-1")
    assert flat(
        [BuiltArtifacts(build="amazon-ebs.web", type="", run=1, ended=None, artifacts=(image,))]
    )[key]


@pytest.mark.usefixtures("packer")
def test_the_job_of_gitlab_runs(cli: Cli, project: Project) -> None:
    text = example("gitlab")
    project.write("web.pkr.hcl", FILE)
    lines = re.findall(r"^    - (packer-fork .*)$", text, re.MULTILINE)
    (dotenv,) = re.findall(r"PACKER_FORK_DOTENV: (.*)$", text, re.MULTILINE)
    assert f"dotenv: {dotenv}" in text
    assert len(lines) == 2
    shell(cli, "\n".join(lines), GITLAB_CI="true", PACKER_FORK_DOTENV=dotenv)
    assert "PACKER_ARTIFACT_FILE_WEB=" in (project.root / dotenv).read_text()


def in_ci(cli: Cli, project: Project, lines: list[str], **environ: str) -> str:
    """What the commands of a job print, its state in a folder of the project, outside git."""
    project.write("web.pkr.hcl", FILE)
    state = project.root / "lasting"
    said = shell(cli, "\n".join(lines), PACKER_FORK_STATE=str(state), **environ)
    assert (state / "web.pkr.hcl/default/state.json").exists()
    return said


def made(project: Project) -> list[str]:
    """The builds that a job wrote into the file that it archives."""
    listed = msgspec.json.decode(
        (project.root / "images.json").read_bytes(), type=list[BuiltArtifacts]
    )
    return [each.build for each in listed]


@pytest.mark.usefixtures("packer")
def test_the_pipeline_of_jenkins_runs(cli: Cli, project: Project) -> None:
    text = example("jenkins")
    lines = re.findall(r"^ +sh '(.*)'$", text, re.MULTILINE)
    assert len(lines) == text.count("packer-fork ")
    in_ci(cli, project, lines, JENKINS_URL="https://jenkins.example.org")
    assert made(project) == ["file.web"]
    assert "artifacts: 'images.json'" in text
    assert re.search(r"^ +PACKER_FORK_STATE = '/\S+'$", text, re.MULTILINE)


@pytest.mark.usefixtures("packer")
def test_the_step_of_buildkite_runs(cli: Cli, project: Project) -> None:
    text = example("buildkite")
    lines = re.findall(r"^ +- (packer-fork .*)$", text, re.MULTILINE)
    assert len(lines) == 2
    in_ci(cli, project, lines, BUILDKITE="true")
    assert made(project) == ["file.web"]
    assert "artifact_paths: images.json" in text
    codes = [int(code) for code in re.findall(r"exit_status: (\d+)", text)]
    assert codes == [errors.EXIT_STORE]


@pytest.mark.usefixtures("packer")
def test_the_line_of_cron_runs(cli: Cli, project: Project) -> None:
    (line,) = re.findall(r"^17 3 \* \* \* (.*)$", example("cron"), re.MULTILINE)
    (command,) = re.findall(r"packer-fork .*$", line)
    assert line == f"cd /srv/images && {command}"
    assert "file.web: complete" in in_ci(cli, project, [f"{command} 2>&1"])
    assert in_ci(cli, project, [f"{command} 2>&1"]) == ""


def test_the_exclusions_are_valid(project: Project) -> None:
    project.write("packer-fork.toml", example("exclude"))
    settings, _ = config.load(project.root, {}, {})
    assert settings.ignore_vars == ("git_sha", "token")
    assert "docs/**" in settings.ignore


def test_the_check_of_an_artifact_is_valid(project: Project) -> None:
    project.write("packer-fork.toml", example("artifact check"))
    settings, _ = config.load(project.root, {}, {})
    assert settings.artifact_check == {"mitchellh.amazonebs": ("./ami-exists",)}


def test_the_workflow_gives_the_action_what_it_takes() -> None:
    text = example("github")
    action = (ROOT / ".github/actions/packer-fork/action.yml").read_text(encoding="utf-8")
    given = text.partition("uses: OWNER/packer-fork/.github/actions/packer-fork@REF")[2]
    used = set(re.findall(r"^          ([a-z-]+):", given.partition("\n      - ")[0], re.MULTILINE))
    inputs = action.partition("inputs:")[2].partition("outputs:")[0]
    assert used
    assert used <= set(re.findall(r"^  ([a-z-]+):", inputs, re.MULTILINE))
    (output,) = re.findall(r"steps\.images\.outputs\.([a-z]+)", text)
    assert re.search(rf"^  {output}:", action.partition("outputs:")[2], re.MULTILINE)


@pytest.mark.usefixtures("packer")
def test_a_digest_is_checked_without_this_program(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", FILE)
    assert cli("build", "t.pkr.hcl").rc == 0
    state = folder(project.root) / "state.json"
    told = shell(cli, f"cd {shlex.quote(str(state.parent))}\n{example('digest')}")
    assert told.split()[0] in state.read_text().splitlines()[0]


@pytest.mark.usefixtures("packer")
def test_the_transcripts_are_true(cli: Cli, project: Project) -> None:
    project.example("demo")
    steps = transcript("transcript")
    assert [arguments[1] for arguments, _ in steps] == ["build", "state", "lock"]
    for (program, *arguments), said in [*steps, *transcript("plan")]:
        if program == "rm":
            (project.root / arguments[0]).unlink()
            continue
        result = (cli.cached if arguments[0] == "build" else cli)(*arguments)
        assert result.rc == 0, result
        if arguments[0] == "build":  # of Packer's own words only ours are compared
            assert lasting(result.err) == lasting(ours(said))
            assert "--> file.greeting: Stored file: greeting.txt" in said
            assert "--> file.greeting: Stored file: greeting.txt" in result.out
        else:
            assert lasting(result.out) == lasting(said)


def test_the_demo_runs_what_the_transcript_shows() -> None:
    script = (ROOT / ".ci" / "demo").read_text(encoding="utf-8")
    ran = re.findall(r"^run (packer-fork .*)$", script, re.MULTILINE)
    assert [shlex.join(arguments) for arguments, _ in transcript("transcript")] == ran


def play(cli: Cli, kind: str, env: Mapping[str, str]) -> None:
    """Every command of a transcript ends well, and says what stands there, if anything does."""
    for (_, *arguments), said in transcript(kind):
        run = cli.cached if arguments[0] == "build" else cli
        result = run(*arguments, env=env)
        if said.strip():
            assert lasting(result.out + result.err) == lasting(said), result
        assert result.rc in (0, 10), result


@pytest.mark.usefixtures("packer")
def test_going_back_is_as_it_is_shown(cli: Cli, project: Project) -> None:
    project.example("demo")
    play(cli, "back", {})


@pytest.mark.usefixtures("packer")
def test_a_backup_is_made_and_restored_by_these_commands(cli: Cli, project: Project) -> None:
    project.write("web.pkr.hcl", FILE)
    assert cli("build", "web.pkr.hcl").rc == 0
    told = shell(cli, example("backup").replace("state restore", "state restore --yes"))
    assert "manual" in told
    assert (project.root / "web-state.tar").exists()
    assert cli("plan", "--detailed-exitcode", "web.pkr.hcl").rc == 0


@pytest.mark.usefixtures("packer")
def test_what_counts_is_listed_as_it_is_shown(cli: Cli, project: Project) -> None:
    project.example("demo")
    play(cli, "inputs", {})


@pytest.mark.usefixtures("packer")
def test_a_damaged_state_is_told_of_and_repaired_as_it_is_shown(cli: Cli, project: Project) -> None:
    project.example("demo")
    assert cli.cached("build", "demo.pkr.hcl").rc == 0
    state = folder(project.root, "demo.pkr.hcl") / "state.json"
    data = bytearray(state.read_bytes())
    data[len(data) // 2] ^= 1
    state.write_bytes(data)
    play(cli, "damaged", {})
    assert cli("state", "check").rc == 0


LOCK_VARYING = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "LOCK_ID"),
    (re.compile(r"\bpid \d+"), "pid N"),
    (re.compile(r"^( +(command|in): +).*", re.MULTILINE), r"\1..."),
    (re.compile(r"^ +process: +(?!\d+  packer build).*\n?", re.MULTILINE), ""),
    (re.compile(r"(process: +)\d+"), r"\1N"),
)


def about_a_lock(text: str) -> list[str]:
    """What lasts of it: of the processes, which differ by Packer's release, only Packer itself."""
    for pattern, name in LOCK_VARYING:
        text = pattern.sub(name, text)
    return lasting(text)


@pytest.mark.usefixtures("packer")
def test_the_page_for_operators_shows_what_they_see(cli: Cli, project: Project) -> None:
    name, env = "web.pkr.hcl", {"PACKER_FORK_ON_WRAPPER_DEATH": "finish"}
    project.write(name, textwrap.dedent(GATED))
    shown = {said.split()[1]: said for _, said in transcript("statuses")}
    assert list(shown) == [str(each) for each in locks.Status]

    def sees(status: str) -> None:
        assert about_a_lock(cli("lock", "status", name).out) == about_a_lock(shown[status])

    go_on(project.root)
    assert cli("build", name).rc == 0
    sees("free")
    for gate in ("go", "begun"):
        (project.root / gate).unlink()
    running = begun(cli, project, "--rebuild", name, env=env)
    waiting = cli.start("build", "--lock-timeout", "30m", name)
    eventually(lambda: "waiting:" in cli("lock", "status", name).out)
    sees("held")
    waiting.signal(signal.SIGTERM)
    waiting.wait()
    running.signal(signal.SIGKILL)
    running.wait()
    sees("orphaned")
    go_on(project.root)
    eventually(lambda: status(cli, name) == "abandoned")
    sees("abandoned")
    assert cli("state", "recover", name).rc == 0
    (folder(project.root, name) / "lock").write_text("{corrupted")
    sees("unknown")


@pytest.mark.usefixtures("packer")
def test_the_example_in_python_prints_what_it_says(cli: Cli, project: Project) -> None:
    project.example("demo")
    done = subprocess.run(
        [sys.executable, "-c", example("python")],
        cwd=project.root,
        env=dict(cli.environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(example("python says").splitlines())
