"""What a run is seen to read, and whether that is still the same: real processes on real files."""

import errno
import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from packer_fork.inputs import inotify, watcher
from packer_fork.inputs.cache import DigestCache
from packer_fork.inputs.inotify import Inotify
from packer_fork.inputs.observation import UNFINISHED, Names, Observation, differences
from packer_fork.inputs.recording import declarations
from packer_fork.inputs.watcher import Role, Scope, TooManyFilesError, Watcher
from tests.support.watching import HOST, Lab

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    root = tmp_path / "project"
    root.mkdir()
    return Lab(root)


def test_sourced_script_is_read_and_its_change_is_named(lab: Lab) -> None:
    lab.write("main.sh", ". scripts/lib.sh\n")
    lib = lab.write("scripts/lib.sh", "true\n")
    lab.write("scripts/other.sh")
    assert lab.run("sh", "main.sh").reads.keys() == {"main.sh", "scripts/lib.sh"}
    assert lab.differences() == []
    lib.write_text("false\n")
    assert lab.differences() == ["scripts/lib.sh, read in run 1, changed"]
    lib.write_text("true\n")
    assert lab.differences() == []
    lib.chmod(0o755)
    assert lab.differences() == ["scripts/lib.sh, read in run 1, is now executable"]
    lib.unlink()
    assert lab.differences() == ["scripts/lib.sh, read in run 1, is gone"]
    elsewhere = lab.differences(host="ci-7")
    assert elsewhere == ["scripts/lib.sh, read in run 1 on here, is not here"]


def test_other_checkout_agrees_and_touching_is_no_change(lab: Lab, tmp_path: Path) -> None:
    lab.write("scripts/lib.sh")
    lab.sh("cat scripts/*.sh")
    other = shutil.copytree(lab.root, tmp_path / "elsewhere")
    (other / "scripts/lib.sh").touch()
    assert lab.differences(root=other) == []


@pytest.mark.parametrize(
    ("command", "read"),
    [
        ("make", {"Makefile", "rules.mk", "in/a", "in/b"}),
        ("tar -cf - in | wc -c", {"in/a", "in/b", "in/deep/c"}),
        ("./tool", {"tool"}),
        ("cp in/a copy; cat copy", {"in/a"}),
        ("cat link", {"linked/a", "link"}),
        ("cat folder/deep/b", {"target/deep/b", "folder"}),
        ("cat hard", {"hard"}),
        ("exec 9<in/a; cat <&9", {"in/a"}),
        ("cd in/deep; cat ../b", {"in/b"}),
        ("test -f in/a; ls -lR . >/dev/null", set[str]()),
        ("cat .git/HEAD notes.ignored", set[str]()),
    ],
)
def test_reads_of_every_kind_are_seen(lab: Lab, command: str, read: set[str]) -> None:
    lab.write("Makefile", "include rules.mk\nall: in/a\n\tcat in/a in/b >/dev/null\n")
    for name in (
        "rules.mk",
        "in/a",
        "in/b",
        "in/deep/c",
        "linked/a",
        "target/deep/b",
        ".git/HEAD",
        "notes.ignored",
        "hard",
    ):
        lab.write(name, "# content\n")
    shutil.copy("/bin/true", lab.root / "tool")
    (lab.root / "link").symlink_to("linked/a")
    (lab.root / "folder").symlink_to("target")
    os.link(lab.root / "hard", lab.root / "hard-link")
    assert lab.sh(command).reads.keys() == read
    assert lab.differences() == []


def test_mapped_file_is_read(lab: Lab) -> None:
    path = lab.write("mapped")

    def read() -> None:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:] == b"content\n"

    assert lab.observe(read).reads.keys() == {"mapped"}


def test_write_through_a_mapping_is_not_taken_for_a_read(lab: Lab) -> None:
    path = lab.write("mapped")
    os.utime(path, (1, 1))

    def write() -> None:
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[:7] = b"changed"

    observation = lab.observe(write)
    assert not observation.reads
    assert observation.unsettled == ("mapped",)


def test_python_module_is_read_also_from_its_bytecode(lab: Lab) -> None:
    lab.write("main.py", "import helper\n")
    helper = lab.write("helper.py", "x = 1\n")
    for _ in range(2):  # the second time Python opens the bytecode alone
        observation = lab.run("env", "PYTHONDONTWRITEBYTECODE=", sys.executable, "main.py")
        assert observation.reads.keys() == {"main.py", "helper.py"}
    assert (lab.root / "__pycache__").is_dir()
    assert lab.differences() == []
    helper.write_text("x = 2\n")
    assert lab.differences() == ["helper.py, read in run 2, changed"]


def test_link_that_leads_elsewhere_is_a_change(lab: Lab) -> None:
    lab.write("v1.sh", "echo 1\n")
    lab.write("v2.sh", "echo 2\n")
    link = lab.root / "current.sh"
    link.symlink_to("v1.sh")
    lab.sh("sh current.sh")
    assert lab.differences() == []
    link.unlink()
    link.symlink_to("v2.sh")
    assert lab.differences() == ["current.sh, read in run 1, changed"]


def test_what_is_born_in_a_run_is_its_product(lab: Lab) -> None:
    observation = lab.sh(
        "echo x > made; cat made; mkdir -p out/deep; cp made out/deep/f; cat out/*/f"
    )
    assert observation.reads == {}
    assert observation.products == ("made", "out/")
    lab.sh("echo y >> made; cat made; rm -r out; mkdir -p out/deep; cp made out/deep/f")
    assert lab.differences() == []
    assert not lab.runs[-1].unsettled


def test_log_that_is_appended_to_is_neither_read_nor_product(lab: Lab) -> None:
    lab.write("log")
    observation = lab.sh("echo x >> log")
    assert (observation.reads, observation.products, observation.written) == ({}, (), ("log",))
    lab.write("log", "something else")
    assert lab.differences() == []


def test_file_that_is_opened_for_writing_and_not_written_is_read(lab: Lab) -> None:
    lab.write("lock")
    assert lab.sh(": >> lock").reads.keys() == {"lock"}


@pytest.mark.parametrize("command", ["touch script.sh", "chmod +x script.sh", "ln script.sh b"])
def test_attributes_that_a_run_sets_change_no_input(lab: Lab, command: str) -> None:
    lab.write("script.sh", "true\n", mode=0o755)
    lab.declared = ("script.sh",)
    observation = lab.sh(f"{command}; sh script.sh")
    assert observation.reads.keys() == {"script.sh"}
    assert lab.differences() == []


def test_written_before_it_is_read_is_unsettled_once(lab: Lab) -> None:
    lab.write("generated")
    observation = lab.sh("echo new > generated; cat generated")
    assert observation.unsettled == ("generated",)
    assert lab.differences() == ["generated was written while run 1 went on, and read later"]
    observation = lab.sh("echo new > generated; cat generated")
    assert observation.unsettled == ()
    assert observation.products == ("generated",)
    assert lab.differences() == []


@pytest.mark.parametrize(
    "command", ["sed -i s/1/2/ config", "cat config; echo 3 > config", "cat config; rm config"]
)
def test_own_input_that_is_changed_is_never_up_to_date(lab: Lab, command: str) -> None:
    lab.write("config", "1\n")
    for number in (1, 2):
        assert lab.sh(command).changed == ("config",)
        reason = f"config, an input of run {number}, changed while the run went on"
        assert lab.differences() == [reason]
        lab.write("config", "1\n")


def test_product_of_an_earlier_run_may_be_read_and_written(lab: Lab) -> None:
    """As the manifest post-processor does."""
    lab.sh("echo 1 > manifest")
    observation = lab.sh("cat manifest; echo 2 > manifest")
    assert observation.changed == ()
    assert observation.products == ("manifest",)
    assert lab.differences() == []


def test_output_that_the_template_names_is_a_product_also_at_first(lab: Lab) -> None:
    lab.outputs = ("manifest",)
    lab.write("manifest")
    observation = lab.sh("cat manifest; echo 2 > manifest")
    assert (observation.changed, observation.products) == ((), ("manifest",))
    assert lab.sh("cat manifest").reads.keys() == {"manifest"}, "who only reads it, needs it"


def test_input_changed_while_the_run_went_on_and_put_back(lab: Lab, tmp_path: Path) -> None:
    script = lab.write("script.sh", "true\n")
    saved = tmp_path / "saved"
    shutil.copy2(script, saved)
    lab.declared = ("script.sh",)

    def change() -> None:
        script.write_text("true # bad\n")
        subprocess.run(["sh", str(script)], check=True)
        subprocess.run(["cp", "-p", str(saved), str(script)], check=True)

    observation = lab.observe(change)
    assert observation.unsettled == ("script.sh",)
    assert len(lab.differences()) == 1


def test_input_changed_after_it_was_hashed_and_before_the_start(lab: Lab) -> None:
    script = lab.write("script.sh", "true\n")
    cache = DigestCache(None)
    cache.digest(str(script))
    script.write_text("false\n")
    assert declarations(dict(cache.hashed), cache.digest).stale == {str(script)}
    script.write_text("true\n")
    cache = DigestCache(None)
    cache.digest(str(script))
    script.chmod(0o700)
    assert declarations(dict(cache.hashed), cache.digest).stale == set()


def test_listing_counts_where_a_file_was_read_too(lab: Lab) -> None:
    lab.write("rules/a")
    lab.write("docs/a")
    lab.write("top")
    script = "for f in rules/*; do cat $f; done; ls docs . >/dev/null; cat top; echo > rules/made"
    observation = lab.sh(script)
    assert observation.listings.keys() == {"rules"}
    assert lab.differences() == []
    lab.write("docs/b")
    lab.write("another")
    lab.write("rules/b.ignored")
    lab.write("rules/made", "anew")
    assert lab.differences() == []
    lab.write("rules/b")
    assert lab.differences() == ["the names in rules changed since run 1 listed them"]


def test_very_many_reads_become_one_digest_of_the_folder(lab: Lab) -> None:
    for number in range(201):
        lab.write(f"many/{number}")
    lab.write("few")
    observation = lab.sh("cat many/* few; echo > many/made")
    assert observation.reads.keys() == {"few"}
    assert observation.folders.keys() == {"many/*"}
    assert lab.differences() == []
    lab.write("many/made", "again")
    lab.write("many/deep/a")
    assert [text for text in lab.differences() if "names" not in text] == []
    lab.write("many/17", "changed")
    assert "files in many changed since run 1 read them" in lab.differences()


def test_name_that_is_not_utf8(lab: Lab) -> None:
    names = [b"caf\xe9", b"file:x", "ünï".encode()]
    paths = [os.path.join(os.fsencode(lab.root), name) for name in names]  # noqa: PTH118
    for path in paths:
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(b"1")
    observation = lab.sh("cat *")
    assert observation.reads.keys() == {"file:caf%E9", "file:file%3Ax", "ünï"}
    assert msgspec.json.decode(observation.document, type=Observation) == observation
    assert lab.differences() == []
    with open(paths[0], "wb") as file:  # noqa: PTH123
        file.write(b"2")
    assert lab.differences() == ["file:caf%E9, read in run 1, changed"]


def test_name_with_a_secret_is_not_kept(lab: Lab) -> None:
    lab.write("in/secret.txt")
    lab.write("in/other")
    lab.write("secret/deep/a")
    observation = lab.sh("cat in/*.txt secret/deep/a; echo > secret-made")
    assert b"secret" not in observation.document
    assert observation.folders.keys() == {"in/*", "**"}
    assert lab.differences() == []
    lab.write("in/secret.txt", "changed")
    assert "files in in changed since run 1 read them" in lab.differences()


def test_folder_put_in_the_place_of_another_is_watched_again(lab: Lab) -> None:
    lab.write("roles/a", "1")
    script = "rm -r roles; mkdir roles; echo 2 > roles/a; cat roles/a"
    assert lab.sh(script).unsettled == ("roles/a",)
    assert lab.sh(script).products == ("roles/a",)
    assert lab.differences() == []


def test_file_outside_in_a_folder_known_by_reference(lab: Lab, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    for name in ("lib.sh", "deep"):
        (shared / name).mkdir() if name == "deep" else (shared / name).write_text("true\n")
    scope = Scope(
        root=str(lab.root), ignored=lab.ignored, folders=(str(shared),), max_files=lab.max_files
    )
    seen = Watcher(scope)
    subprocess.run(["sh", str(shared / "lib.sh")], check=True)
    trace = seen.finish()
    assert trace.accesses.keys() == {str(shared / "lib.sh")}
    assert lab.project().name(str(shared / "lib.sh")) == str(shared / "lib.sh")


@pytest.mark.parametrize("failing", ["watch", "init"])
def test_too_few_watches_make_the_tree_count(
    lab: Lab, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's limits are everybody's; a lower one is set here."""
    if failing == "init":
        monkeypatch.setattr(watcher, "Inotify", _none_left)
    else:
        monkeypatch.setattr(Inotify, "watch", _none_left)
    lab.write("scripts/lib.sh")
    lab.write("log")
    observation = lab.sh("cat scripts/lib.sh; echo >> log; echo > made; mkdir out; echo > out/f")
    assert observation.status == "complete"
    assert observation.reason.startswith("too few inotify")
    assert observation.folders.keys() == {"**"}
    assert observation.unsettled == ("log",), "another process may have written it"
    lab.sh("cat scripts/lib.sh; echo >> log; echo > made; mkdir -p out; echo > out/f")
    assert lab.differences() == [], "no loop"
    lab.write("made", "changed")
    lab.write("out/g", "changed")
    assert lab.differences() == []
    lab.write("scripts/new.sh")
    assert lab.differences() == ["files below the project changed since run 2 read them"]


def _none_left(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_overflow_makes_the_tree_count(lab: Lab) -> None:
    for number in range(3):
        lab.write(f"in/{number}")
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())

    def flood() -> None:
        for _ in range(limit // 4):
            for number in range(3):
                (lab.root / f"in/{number}").read_bytes()

    observation = lab.observe(flood)
    assert "more files were opened at once" in observation.reason
    assert observation.folders.keys() == {"**"}
    assert lab.differences() == []
    lab.write("in/0", "changed")
    assert lab.differences() == ["files below the project changed since run 1 read them"]


def test_drained_queue_does_not_overflow(lab: Lab) -> None:
    path = lab.write("in/a")
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    watching: list[Watcher] = []

    def flood() -> None:
        for number in range(limit):
            path.read_bytes()
            if number % 1000 == 0:
                watching[0].drain()

    observation = lab.observe(flood, watching.append)
    assert observation.reason == ""
    assert observation.reads.keys() == {"in/a"}


def test_too_many_files_are_not_watched(lab: Lab) -> None:
    lab.max_files = 2
    for number in range(3):
        lab.write(f"{number}")
    with pytest.raises(TooManyFilesError):
        lab.sh("true")


def test_own_opens_do_not_count(lab: Lab) -> None:
    path = lab.write("artifact")
    lab.write("other")
    watching: list[Watcher] = []

    def hash_it() -> None:
        with path.open("rb") as file:
            watching[0].drain((str(path), inotify.OPEN))
            file.read()
        watching[0].drain((str(path), inotify.CLOSE_NOWRITE))
        (lab.root / "other").read_bytes()

    assert lab.observe(hash_it, watching.append).reads.keys() == {"other"}

    def hash_it_while_another_reads() -> None:
        with path.open("rb") as file:
            watching[-1].drain((str(path), inotify.OPEN))
            subprocess.run(["cat", str(path)], check=True, stdout=subprocess.DEVNULL)
            file.read()
        watching[-1].drain((str(path), inotify.CLOSE_NOWRITE))

    assert lab.observe(hash_it_while_another_reads, watching.append).reads.keys() == {"artifact"}


def test_reads_of_one_packer_are_parted_by_what_names_and_mentions_them(lab: Lab) -> None:
    lab.write("a.sh", ". ./both.sh\n")
    lab.write("b.sh", ". ./both.sh; . ./c.sh\n")
    lab.write("c.sh")
    lab.write("both.sh", "true\n")
    lab.declared, lab.others = ("b.sh",), {"a": ("a.sh",), "c": ("c.sh",)}
    lab.sh("cat a.sh b.sh c.sh both.sh; echo >> a.sh")
    reads = {build: set(each.reads) for build, each in lab.by_build.items()}
    assert reads == {"a": {"both.sh"}, "b": {"b.sh", "c.sh", "both.sh"}, "c": {"c.sh", "both.sh"}}
    changed = {build: each.changed for build, each in lab.by_build.items()}
    assert changed == {"a": ("a.sh",), "b": (), "c": ()}


def test_unfinished_observation_is_never_up_to_date(lab: Lab) -> None:
    (reason,) = differences(UNFINISHED, 3, lab.project(), Names, HOST)
    assert reason.startswith("run 3 was not observed to its end")


def test_document_is_named_by_its_digest(lab: Lab) -> None:
    lab.write("b")
    lab.write("a")
    first = lab.sh("cat a b")
    second = lab.sh("cat b a")
    assert first.digest == second.digest
    assert b"content" not in first.document


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (watcher.OPENED, Role.READ),
        (0, Role.NOTHING),
        (watcher.OPENED | watcher.WROTE, Role.WRITTEN),
        (watcher.OPENED | watcher.WROTE | watcher.READ_AFTER, Role.UNSETTLED),
        (watcher.OPENED | watcher.WROTE | watcher.READ_BEFORE, Role.CHANGED),
    ],
)
def test_role_by_what_was_seen(flags: int, expected: Role) -> None:
    same = (1, 2, 3, 4)
    found = watcher.role_of(same, same, flags, is_output=False, was_written=False)
    assert found is expected


@pytest.mark.parametrize(
    ("folder", "follower", "unsettled"),
    [
        ("there", "cat there/base.img", ("there/base.img",)),
        ("there", "cat there/*.img", ("there/base.img",)),
        ("there", "f=base; cat there/$f.img", ()),
        ("there", "mkdir -p there", ()),
        ("there", "true", ()),
        ("new", "cat new/base.img", ("new/base.img",)),
        ("new", "cat new/*.img", ()),
        ("new", "mkdir -p new", ()),
    ],
)
def test_artifact_that_a_neighbour_may_have_read_half_written_is_unsettled(
    lab: Lab, folder: str, follower: str, unsettled: tuple[str, ...]
) -> None:
    lab.write("there/other")
    lab.write("base.sh", f"mkdir -p {folder}; echo 1 > {folder}/base.img; cat {folder}/base.img\n")
    lab.write("app.sh", f"{follower}\n")
    lab.declared, lab.others = ("app.sh",), {"base": ("base.sh",)}
    lab.makers = {"base": (f"{folder}/base.img",)}
    assert lab.sh("sh base.sh; sh app.sh").unsettled == unsettled
    assert lab.by_build["base"].unsettled == ()
    again = lab.sh("sh base.sh; sh app.sh").unsettled
    assert not unsettled or again == (), "once is enough"
