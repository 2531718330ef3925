"""Which project a state belongs to, where many keep their states in one place."""

from pathlib import Path

import pytest

from packer_fork.manager import project
from packer_fork.model import Project
from tests.conftest import Cli
from tests.conftest import Project as Checkout
from tests.support import states
from tests.support.checkouts import with_origin
from tests.support.queries import ONE, answer, answers, done, refused, runs

ORIGINS = {
    "https://github.com/acme/images.git": "github.com/acme/images",
    "https://token:secret@GitHub.com/acme/images": "github.com/acme/images",
    "git@github.com:acme/images.git": "github.com/acme/images",
    "ssh://git@git.example.org:7999/acme/images.git/": "git.example.org/acme/images",
    "/srv/git/images.git": "",
    "../images": "",
    "file:///srv/git/images": "",
    "images": "",
}


@pytest.mark.parametrize("url", ORIGINS)
def test_origin_is_host_and_path_without_credentials(tmp_path: Path, url: str) -> None:
    marks = project.marks_of(with_origin(tmp_path, url), "web", is_shared=False)
    assert marks == Project(origin=ORIGINS[url], name="web", root=str(tmp_path))
    assert project.marks_of(tmp_path, "web", is_shared=True).root == ""


def test_folders_of_one_repository_are_projects_apart(tmp_path: Path) -> None:
    with_origin(tmp_path, "https://github.com/acme/images")
    (tmp_path / "a" / "b").mkdir(parents=True)
    marks = project.marks_of(tmp_path / "a" / "b", "", is_shared=True)
    assert marks.origin == "github.com/acme/images//a/b"


def test_worktree_has_the_origin_of_its_repository(tmp_path: Path) -> None:
    main = with_origin(tmp_path / "main", "git@github.com:acme/images.git")
    own = main / ".git" / "worktrees" / "other"
    own.mkdir(parents=True)
    (own / "commondir").write_text("../..\n", encoding="utf-8")
    other = tmp_path / "other"
    other.mkdir()
    (other / ".git").write_text(f"gitdir: {own}\n", encoding="utf-8")
    assert project.marks_of(other, "", is_shared=True).origin == "github.com/acme/images"


def test_unreadable_git_configuration_is_no_origin(tmp_path: Path) -> None:
    (tmp_path / ".git" / "config").mkdir(parents=True)
    assert project.marks_of(tmp_path, "", is_shared=True) == Project()


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        (Project(), Project(origin="h/a", name="n", root="/r"), False),
        (Project(origin="h/a"), Project(origin="h/b"), True),
        (Project(origin="h/a", name="n"), Project(origin="h/b", name="n"), True),
        (Project(origin="h/a", root="/r"), Project(origin="h/a", root="/s"), False),
        (Project(name="n", root="/r"), Project(origin="h/a", name="n", root="/s"), False),
        (Project(name="n", root="/r"), Project(name="m", root="/r"), True),
        (Project(root="/r"), Project(origin="h/a", root="/s"), True),
        (Project(root="/r"), Project(name="n", root="/r"), False),
    ],
)
def test_first_mark_known_of_both_decides(one: Project, other: Project, *, differs: bool) -> None:
    assert (one.differing_mark(other) is not None) is differs
    assert (other.differing_mark(one) is not None) is differs


@pytest.mark.usefixtures("packer")
def test_a_folder_of_states_refuses_another_project(cli: Cli, project: Checkout) -> None:
    alpha, beta = (cli._replace(cwd=checkout(project, name)) for name in ("alpha", "beta"))
    state = ("--state", str(project.root / "states"))
    done(alpha, "build", *state, "t.pkr.hcl")
    before = states.state(alpha, "t.pkr.hcl", *state)
    for command in (
        ("build",),
        ("plan",),
        ("artifacts",),
        ("state", "show", "--json"),
        ("state", "runs"),
        ("state", "rm", "--build", "null.n", "--yes"),
        ("state", "backup"),
    ):
        told = refused(beta, *command, *state, "t.pkr.hcl", rc=10, text=str(project.root / "alpha"))
        assert str(project.root / "beta") in told
        assert "packer-fork state adopt" in told
    assert states.state(alpha, "t.pkr.hcl", *state) == before
    refused(beta, "state", "adopt", *state, "t.pkr.hcl", rc=2, text="--yes")
    done(beta, "state", "adopt", *state, "t.pkr.hcl", "--yes")
    done(beta, "build", "--rebuild", *state, "t.pkr.hcl")
    assert runs(alpha, *state) == [2, 1]
    assert "already uses the state" in done(beta, "state", "adopt", *state, "t.pkr.hcl", "--yes")
    done(alpha, "state", "check", *state, "t.pkr.hcl")
    listed = [
        each["operation"] for each in answers(alpha, "history", *map(str, state), "t.pkr.hcl")
    ]
    assert listed.count("adopt") == 1


def checkout(project: Checkout, name: str, settings: str = "") -> Path:
    project.write(f"{name}/packer-fork.toml", settings)
    project.write(f"{name}/t.pkr.hcl", ONE)
    return project.root / name


@pytest.mark.usefixtures("packer")
def test_one_name_or_one_origin_is_one_project(cli: Cli, project: Checkout) -> None:
    here, there = (cli._replace(cwd=checkout(project, n, 'project = "web"')) for n in "ab")
    clones = [cli._replace(cwd=checkout(project, name)) for name in "cd"]
    for clone, url in zip(clones, list(ORIGINS)[1:3], strict=True):
        with_origin(clone.cwd, url)
    for number, (first, second) in enumerate(((here, there), clones)):
        state = ("--state", str(project.root / f"states{number}"))
        done(first, "build", *state, "t.pkr.hcl")
        done(second, "build", "--rebuild", *state, "t.pkr.hcl")
        assert runs(first, *state) == [2, 1]


@pytest.mark.usefixtures("packer")
def test_a_migrated_state_belongs_to_the_project_that_migrated_it(
    cli: Cli, project: Checkout
) -> None:
    alpha, beta = (cli._replace(cwd=checkout(project, name)) for name in ("alpha", "beta"))
    there = project.root / "states"
    done(alpha, "build", "t.pkr.hcl")
    done(alpha, "state", "migrate", "t.pkr.hcl", "--to", there)
    refused(beta, "plan", "--state", there, "t.pkr.hcl", rc=10, text="belongs to the project")
    assert answer(alpha, "check", "t.pkr.hcl", "--state", there)["found"]["problems"] == []
    done(alpha, "plan", "--state", there, "t.pkr.hcl")
