"""Which files a template refers to, in whatever way it does."""

import os
from pathlib import Path

import pytest

from tests.conftest import Project
from tests.support.collected_inputs import builds_of, files, inputs_of

pytestmark = pytest.mark.usefixtures("packer")

BUILD = """
source "null" "n" {{ communicator = "none" }}
{top}
build {{
  sources = ["source.null.n"]
  {body}
}}
"""


@pytest.fixture
def root(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project.root)
    for name in ("a.sh", "b.sh", "sub/c.sh", "sub/d e.sh", "sub/more/f.txt", "unrelated.txt"):
        project.write(name, name)
    return project.root


def referred(
    root: Path, body: str, top: str = "", *flags: str, name: str = "t.pkr.hcl"
) -> set[str]:
    (root / name).write_text(BUILD.format(top=top, body=body), encoding="utf-8", newline="")
    found = inputs_of(root, name, *flags)
    assert found.unknown == ()
    return files(found)


Cases = list[tuple[str, set[str]]]
"""Bodies of build blocks, and the files that each refers to."""


def assert_found(root: Path, cases: Cases, top: str = "") -> None:
    """That each refers to its files, and only to these, side by side in one template."""
    blocks = (
        f'build {{\n  name = "c{number}"\n  sources = ["source.null.n"]\n  {body}\n}}\n'
        for number, (body, _) in enumerate(cases)
    )
    text = 'source "null" "n" { communicator = "none" }\n' + top + "\n" + "".join(blocks)
    (root / "t.pkr.hcl").write_text(text, encoding="utf-8", newline="")
    builds = builds_of(root, "t.pkr.hcl")
    for number, (body, expected) in enumerate(cases):
        found = builds.of(f"c{number}.null.n")
        assert found is not None, body
        assert (body, files(found), found.unknown) == (body, expected, ())


def shell(attribute: str) -> str:
    return f'provisioner "shell-local" {{\n {attribute}\n }}'


NAMED = [
    ('script = "a.sh"', {"a.sh"}),
    ('script = "./a.sh"', {"a.sh"}),
    ('scripts = ["a.sh", "${path.root}/b.sh"]', {"a.sh", "b.sh"}),
    ('script = "${path.cwd}/sub/d e.sh"', {"sub/d e.sh"}),
    ('script = "${var.folder}/c.sh"', {"sub/c.sh"}),
    ("script = local.script", {"sub/c.sh"}),
    ("scripts = concat([local.script], [\n # a comment\n var.one\n])", {"sub/c.sh", "b.sh"}),
    ('script = var.one == "b.sh" ? "a.sh" : "b.sh"', {"a.sh"}),
    ('scripts = [for n in ["a", "b"] : "${n}.sh"]', {"a.sh", "b.sh"}),
    (
        'scripts = [for f in fileset(var.folder, "*.sh") : "${var.folder}/${f}"]',
        {"sub/c.sh", "sub/d e.sh"},
    ),
    ('scripts = fileset(path.root, "*.sh")', {"a.sh", "b.sh"}),
    ('inline = [file("a.sh")]', {"a.sh"}),
    ('inline = [file("${path.root}/sub/${var.none}c.sh")]', {"sub/c.sh"}),
    ('inline = [templatefile("sub/more/f.txt", {\n x = 1\n y = "2"\n})]', {"sub/more/f.txt"}),
    ('environment_vars = ["X=${filebase64("b.sh")}"]', {"b.sh"}),
    ('inline = ["bash a.sh --conf=sub/more/f.txt"]', {"a.sh", "sub/more/f.txt"}),
    ('inline = ["echo > a.sh", "tee -a b.sh", "echo"]', set()),
    ("inline = [<<-EOT\n   bash ${var.folder}/c.sh\n   EOT\n ]", {"sub/c.sh"}),
    ('inline = ["%{ if true }a.sh%{ endif }"]', {"a.sh"}),
    ('inline = ["echo $${a.sh}", "a\\u002esh"]', {"a.sh"}),
    ('script = "${build.ID}.sh"', {"a.sh", "b.sh", "sub/c.sh", "sub/d e.sh"}),
    ('script = "sub/${build.ID}.txt"', {"sub/more/f.txt"}),
    ('inline = ["echo ${build.name}"]', set()),
    ('only_on = ["sub"]', set()),
    ('unheard_of_dirs = ["sub"]', {"sub/c.sh", "sub/d e.sh", "sub/more/f.txt"}),
]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_file_is_found(root: Path, newline: str) -> None:
    top = """
      variable "folder" { default = "sub" }
      variable "one" { default = "b.sh" }
      variable "none" { default = "" }
      locals { script = "${var.folder}/c.sh" }
    """
    cases = [(shell(body).replace("\n", newline), expected) for body, expected in NAMED]
    assert_found(root, cases, top.replace("\n", newline))


COMMANDS = [
    ('inline = [". ./bin/mkroot", "cat notes"]', {"bin/mkroot", "notes"}),
    ('inline = ["make ROLES=./roles/"]', {"roles/web/main.yml"}),
    ('inline = ["x --inventory=roles"]', {"roles/web/main.yml"}),
    ('inline = ["x -i roles"]', {"roles/web/main.yml"}),
    ('inline = ["make roles", "deploy user=roles"]', set()),
    ('inline = ["cat roles/*/*.yml > notes", "rm -f *"]', {"roles/web/main.yml"}),
    ('inline = ["echo >> notes", "{{.Vars}} ./bin/mkroot"]', {"bin/mkroot"}),
    ('command = "notes"', {"notes"}),
    ('execute_command = ["./bin/mkroot", "{{.Script}}"]', {"bin/mkroot"}),
    ('environment_vars = ["ROLES=roles:bin", "WHO=n"]', {"roles/web/main.yml", "bin/mkroot"}),
    ('scripts = ["{{ pwd }}/a.sh", "{{template_dir}}/b.sh"]', {"a.sh", "b.sh"}),
    ('scripts = ["sub/{{ build_name }}.sh", "sub/${source.name}.txt"]', {"sub/n.sh", "sub/n.txt"}),
    ('scripts = ["sub/{{.BuildName}}.sh", "${source.type}"]', {"sub/n.sh"}),
    ('scripts = [for f in fileset(".", "s*/c.sh") : f]', {"sub/c.sh"}),
    ('scripts = [for f in fileset(".", "${build.ID}b/?.sh") : f]', {"sub/c.sh", "sub/n.sh"}),
    ('inline = ["echo ${join(",", fileset("sub", "c*"))}"]', {"sub/c.sh"}),
]
"""What counts of a shell-local provisioner of ``null.n``, and only that."""


def test_words_of_commands_and_names_of_builds(root: Path, project: Project) -> None:
    for name in ("bin/mkroot", "notes", "roles/web/main.yml", "sub/n.sh", "sub/n.txt", "n/x.sh"):
        project.write(name, "")
    assert_found(root, [(shell(body), expected) for body, expected in COMMANDS])


LOCALS = """
  variable "os" { default = "debian" }
  variable "more" { default = null }
  variable "exact" { default = 1.2345678 }
  locals {
    known   = ["a.sh"]
    dir     = build.ID == "x" ? "sub" : "sub/more"
    partial = var.more == null ? (build.ID == "" ? ["b.sh"] : concat(local.known, ["c.sh"])) : []
    named   = { one = "a.sh", two = build.ID }
  }
"""
UNKNOWN = [
    ("scripts = local.partial", {"a.sh", "b.sh"}),
    ('scripts = build.ID == "unrelated.txt" ? ["a.sh"] : ["b.sh"]', {"a.sh", "b.sh"}),
    ('script = var.os == build.ID ? "sub/${var.os}.sh" : "a.sh"', {"a.sh"}),
    ('script = "${local.dir}/f.txt"', {"sub/more/f.txt"}),
    ('scripts = [for s in ["a", "x"] : "${s}${build.ID == "" ? ".sh" : ""}"]', {"a.sh"}),
    ('scripts = [for s in ["sub/", build.ID] : "./${s}/d e.sh" if s != ""]', {"sub/d e.sh"}),
    ('script = format("%s/c.sh", build.ID)', {"sub/c.sh"}),
    ('script = join("/", ["sub", "${build.ID}.txt"])', {"sub/more/f.txt"}),
    ('script = lookup({ "unrelated.txt" = "a.sh" }, build.ID, "b.sh")', {"a.sh", "b.sh"}),
    ('script = local.named["one"]', {"a.sh"}),
    ('script = replace("sub/NAME.sh", "NAME", source.name)', {"sub/n.sh"}),
    ('script = "sub/${var.exact}-${build.ID}.txt"', {"sub/1.2345678-x.txt"}),
    ("script = build.ID", set()),
    ('script = "${path.root}/sub/c.sh${build.ID}"', {"sub/c.sh"}),
    ('script = try(build.ID, "a.sh")', {"a.sh"}),
]
"""What counts where ``build.ID`` is not known before the build runs."""


def test_what_is_known_of_an_expression_counts(root: Path, project: Project) -> None:
    by_name = [case for case in UNKNOWN if "source.name" in case[0] or "var.exact" in case[0]]
    others = [case for case in UNKNOWN if case not in by_name]
    assert len(by_name) == 2
    assert_found(root, [(shell(body), expected) for body, expected in others], LOCALS)
    project.write("sub/n.sh", "")
    project.write("sub/1.2345678-x.txt", "")
    assert_found(root, [(shell(body), expected) for body, expected in by_name], LOCALS)


def test_dynamic_blocks_are_followed(root: Path) -> None:
    body = """
      dynamic "provisioner" {
        labels   = ["shell-local"]
        for_each = { a = { script = "a.sh" }, "c" = { script = "sub/c.sh" } }
        iterator = each
        content {
          script = each.value.script
          inline = [file("${each.key}.sh")]
        }
      }
    """
    top = 'locals { unused = [for f in fileset("sub", "c*") : file("sub/${f}")] }'
    assert referred(root, body, top) == {"a.sh", "sub/c.sh"}


def test_locals_that_read_files_count_where_they_are_used(root: Path) -> None:
    top = 'locals {\n x = { for f in fileset("sub", "**/*.txt") : f => file("sub/${f}") }\n}'
    assert referred(root, shell("inline = values(local.x)"), top) == {"sub/more/f.txt"}
    assert referred(root, "", top) == set()


def test_byte_order_mark_does_no_harm(root: Path) -> None:
    text = 'variable "v" {\n default = "x"\n}\n' + BUILD.format(
        top="", body=shell("inline = [var.v]")
    )
    (root / "t.pkr.hcl").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert "variable v" in inputs_of(root, "t.pkr.hcl").entries


def test_file_functions_look_beside_the_template_and_scripts_where_packer_is(
    root: Path, project: Project
) -> None:
    project.write("images/x.tpl", "")
    project.write(
        "images/t.pkr.hcl",
        BUILD.format(
            top="",
            body=shell('script = "a.sh"\ninline = [file("x.tpl"), file("${path.root}/x.tpl")]'),
        ),
    )
    assert files(inputs_of(root, "images/t.pkr.hcl")) == {"a.sh", "images/x.tpl"}


def test_playbook_means_all_around_it(root: Path, project: Project) -> None:
    project.write("play/site.yml", "")
    project.write("play/roles/web/tasks/main.yml", "")
    project.write("ansible.cfg", "")
    body = 'provisioner "ansible" {\n playbook_file = "play/site.yml"\n}'
    assert referred(root, body) == {"play/site.yml", "play/roles/web/tasks/main.yml", "ansible.cfg"}


BUILDERS = [
    ('firmware = "{outside}/firmware.fd"', {"{outside}/firmware.fd"}),
    ('qemuargs = [["-drive", "file=img/seed,format=raw"]]', {"img/seed"}),
    ('floppy_files = ["drivers/a?.inf", "img"]', {"drivers/a1.inf", "img/seed"}),
    ('floppy_files = ["drivers/[b-z]*"]', {"drivers/b2.inf"}),
    ('floppy_dirs = ["dri*"]', {"drivers/a1.inf", "drivers/b2.inf"}),
    ('cd_files = ["./img/*", ""]', {"img/seed"}),
    ('nested {{ cd_files = ["./img/*"] }}', {"img/seed"}),
    ('http_directory = "img"', {"img/seed"}),
    ('iso_url = "file:img/seed?archive=false"', {"img/seed"}),
    ('ssh_username = "img"', set()),
    ('vm_name = "img"', set()),
    ('whatever = "img"', set()),
    ('whatever_dir = "{outside}"', set()),
    ('boot_command = ["img/seed"]', set()),
    ('cd_content = {{ "meta-data" = "img/seed" }}', set()),
    ('iso_checksum = "file:img/seed"', {"img/seed"}),
]


def test_what_a_builder_reads(root: Path, project: Project, tmp_path: Path) -> None:
    for name in ("img/seed", "drivers/a1.inf", "drivers/b2.inf", "elsewhere/firmware.fd"):
        project.write(name, "")
    outside = tmp_path / "outside"
    (root / "elsewhere").rename(outside)
    text = "".join(
        f'source "qemu" "q{number}" {{\n {attributes.format(outside=outside)}\n}}\n'
        f'build {{ sources = ["qemu.q{number}"] }}\n'
        for number, (attributes, _) in enumerate(BUILDERS)
    )
    (root / "t.pkr.hcl").write_text(text, encoding="utf-8")
    builds = builds_of(root, "t.pkr.hcl")
    for number, (attributes, expected) in enumerate(BUILDERS):
        found = builds.of(f"qemu.q{number}")
        assert found is not None
        names = {each.format(outside=outside) for each in expected}
        assert (attributes, files(found)) == (attributes, names)


ANSIBLE = [
    ('playbook_file = "ansible/play/site.yml"', {"play/site.yml", "roles/web/main.yml"}),
    ('roles_path = "more"', {"more/db/main.yml"}),
    ('galaxy_file = "reqs.yml"', {"reqs.yml"}),
    ('inventory_file = "inv/hosts"', {"inv/hosts", "inv/group_vars/all"}),
    ('inventory_directory = "inv"', {"inv/hosts", "inv/group_vars/all"}),
    ('extra_arguments = ["-i", "inv"]', {"inv/hosts", "inv/group_vars/all"}),
    ('extra_arguments = ["--vault-password-file=inv/hosts"]', {"inv/hosts"}),
    ('ansible_env_vars = ["ANSIBLE_ROLES_PATH=more:none"]', {"more/db/main.yml"}),
    ('ansible_env_vars = ["ANSIBLE_COLLECTIONS_PATH=more"]', {"more/db/main.yml"}),
    ('ansible_env_vars = ["ANSIBLE_CONFIG=conf/a.cfg"]', {"conf/a.cfg", "reqs.yml", "inv/hosts"}),
    ('user = "inv"', set()),
]


def test_what_ansible_reads(root: Path, project: Project) -> None:
    names = ("ansible/play/site.yml", "ansible/roles/web/main.yml", "ansible/notes")
    for name in (*names, "more/db/main.yml", "reqs.yml", "inv/hosts", "inv/group_vars/all"):
        project.write(name, "")
    project.write(
        "conf/a.cfg", "[defaults]\nroles_path=../reqs.yml:x\ninventory = ../inv/hosts ; x"
    )
    playbook, *others = ANSIBLE
    below = [(playbook[0], {f"ansible/{name}" for name in playbook[1]}), *others]
    assert_found(
        root,
        [(f'provisioner "ansible" {{\n {body}\n}}', expected) for body, expected in below],
    )


def test_roles_of_a_playbook_hide_those_beside_its_folder(root: Path, project: Project) -> None:
    for name in ("site.yml", "roles/a.yml", "../roles/b.yml", "../group_vars/all"):
        project.write(f"top/play/{name}", "")
    body = 'provisioner "ansible" {\n playbook_file = "top/play/site.yml"\n}'
    expected = {"top/play/site.yml", "top/play/roles/a.yml", "top/group_vars/all"}
    assert referred(root, body) == expected


def test_settings_of_ansible_where_packer_is_started(root: Path, project: Project) -> None:
    project.write("more/db/main.yml", "")
    project.write("ansible.cfg", "[defaults]\nroles_path = more\n")
    body = 'provisioner "ansible" {\n user = "x"\n}'
    assert referred(root, body) == {"ansible.cfg", "more/db/main.yml"}
    environ = {**os.environ, "ANSIBLE_CONFIG": "none", "ANSIBLE_LIBRARY": "more"}
    assert files(inputs_of(root, "t.pkr.hcl", environ=environ)) == {"more/db/main.yml"}


def test_files_to_upload_are_named_in_a_list_too(root: Path) -> None:
    body = 'provisioner "file" {\n sources = ["a.sh", "sub"]\n destination = "/tmp/"\n}'
    assert {"a.sh", "sub/more/f.txt"} <= referred(root, body)


def test_what_is_downloaded_lies_on_the_machine_that_is_built(root: Path) -> None:
    body = """provisioner "file" {
        direction   = "download"
        source      = "a.sh"
        destination = "fetched/"
    }"""
    assert referred(root, body) == set()


def test_paths_on_the_machine_that_is_built_mean_nothing_here(root: Path) -> None:
    body = f"""
      provisioner "file" {{
        source      = "a.sh"
        destination = "{root}/sub"
      }}
      provisioner "shell" {{
        remote_folder = "sub"
        inline = ["cat /etc/hostname"]
      }}
    """
    assert referred(root, body) == {"a.sh"}


def test_symlinks_count_by_what_they_lead_to(root: Path) -> None:
    (root / "sub/loop").symlink_to(root / "sub")
    (root / "sub/link").symlink_to(root / "a.sh")
    (root / "sub/nowhere").symlink_to("/does/not/exist")
    os.mkfifo(root / "sub/pipe")
    body = shell('scripts = "sub"')
    assert {"sub/link", "sub/nowhere", "sub/pipe"} < referred(root, body)
    before = inputs_of(root, "t.pkr.hcl")
    (root / "a.sh").write_text("other", encoding="utf-8")
    after = inputs_of(root, "t.pkr.hcl")
    changed = {key for key in before.entries if before.entries[key] != after.entries[key]}
    assert changed == {"file sub/link"}


@pytest.mark.parametrize(
    "body",
    [
        'post-processor "manifest" {\n output = "sub/c.sh"\n }',
        'post-processor "compress" {\n output = "sub"\n }',
        'provisioner "file" {\n direction = "download"\n source = "/x"\n destination = "sub"\n }',
    ],
)
def test_outputs_are_no_inputs(root: Path, body: str) -> None:
    scripts = shell('scripts = ["a.sh", "sub/c.sh"]')
    assert "sub/c.sh" not in referred(root, f"{body}\n{scripts}")


def test_a_pattern_of_outputs_hides_no_file_that_is_named(root: Path) -> None:
    output = 'post-processor "checksum" {\n output = "sub/{{.ChecksumType}}.sh"\n }'
    walked, named = 'inline = ["cat sub/*.sh"]', 'script = "sub/c.sh"'
    assert referred(root, f"{output}\n{shell(walked)}") == set()
    assert referred(root, f"{output}\n{shell(named)}") == {"sub/c.sh"}


def test_what_one_build_makes_is_an_input_of_another_that_names_it(root: Path) -> None:
    template = """
    source "null" "base" { communicator = "none" }
    source "file" "app" {
      source = "sub/c.sh"
      target = "out"
    }
    build {
      name    = "base"
      sources = ["null.base"]
      post-processor "shell-local" { inline = ["cat sub/c.sh"] }
      post-processor "artifice" { files = ["sub/c.sh"] }
    }
    build { sources = ["file.app"] }
    """
    (root / "t.pkr.hcl").write_text(template, encoding="utf-8")
    builds = builds_of(root, "t.pkr.hcl")
    found = {name: files(inputs) for name in builds.builds if (inputs := builds.of(name))}
    assert found == {"base.null.base": set(), "file.app": {"sub/c.sh"}}


def test_names_of_builds_are_put_in_for_each_build(root: Path, project: Project) -> None:
    steps = """
      provisioner "shell-local" { script = "${source.name}.sh" }
      provisioner "shell-local" { script = "sub/{{ build_name }}.sh" }
      provisioner "shell-local" { script = "unrelated.txt" }
    """
    sources = 'source "null" "a" {}\nsource "null" "b" {}\n'
    build = f'build {{\n sources = ["null.a", "null.b"]\n{steps}\n}}'
    (root / "t.pkr.hcl").write_text(sources + build, encoding="utf-8")
    project.write("sub/b.sh", "")
    builds = builds_of(root, "t.pkr.hcl")
    found = {name: files(inputs) for name in builds.builds if (inputs := builds.of(name))}
    common = {"unrelated.txt"}
    assert found == {"null.a": {"a.sh"} | common, "null.b": {"b.sh", "sub/b.sh"} | common}


def test_override_of_a_json_step_names_files(root: Path, project: Project) -> None:
    project.write(
        "t.json",
        """
        {"builders": [{"type": "null", "communicator": "none"}],
         "provisioners": [{"type": "shell-local", "override": {"null": {"script": "a.sh"}}}]}
        """,
    )
    assert files(inputs_of(root, "t.json")) == {"a.sh"}


def test_output_that_holds_the_project_leaves_nothing_out(root: Path) -> None:
    script = shell('script = "a.sh"')
    body = f'{script}\npost-processor "compress" {{\n output = "."\n }}'
    assert referred(root, body) == {"a.sh"}


def test_what_is_never_an_input(root: Path, project: Project) -> None:
    for name in (".packer-fork/x", "packer_cache/x", ".git/x", "made/x", "skipped/x.tmp", "in/x"):
        project.write(f"all/{name}", "")
    (root / "t.pkr.hcl").write_text(
        BUILD.format(top="", body=shell('scripts = "all"')), encoding="utf-8"
    )
    found = inputs_of(
        root, "t.pkr.hcl", outputs={"null.n": (root / "all/made",)}, ignore=("all/skipped/*.tmp",)
    )
    assert files(found) == {"all/in/x"}


def test_more_inputs_by_glob(root: Path) -> None:
    (root / "t.pkr.hcl").write_text(BUILD.format(top="", body=""), encoding="utf-8")
    found = files(
        inputs_of(root, "t.pkr.hcl", input_globs=("sub/**", "*.txt", "no/such/*", "sub/more"))
    )
    assert found == {"sub/c.sh", "sub/d e.sh", "sub/more/f.txt", "unrelated.txt"}


def test_folder_loads_its_templates_and_variables(root: Path, project: Project) -> None:
    project.write("d/a.pkr.hcl", 'variable "v" {}\n')
    project.write("d/b.pkr.json", '{"variable": {"w": {"default": "1"}}}')
    project.write("d/c.pkr.hcl", BUILD.format(top="", body=shell("inline = [var.v, var.w]")))
    project.write("d/x.auto.pkrvars.hcl", 'v = "1"\n')
    project.write("d/deeper/c.pkr.hcl", 'variable "x" {}')
    project.write("d/notes.txt", "")
    keys = inputs_of(root, "d").entries.keys()
    assert {key for key in keys if key.startswith(("template", "var"))} == {
        *("variable v", "variable w"),
    }


def test_hcl_in_json(root: Path, project: Project) -> None:
    project.write(
        "t.pkr.json",
        r"""
      {
        "//": "a comment",
        "variable": {"folder": {"default": "sub"}},
        "source": {"null": {"n": {"communicator": "none"}}},
        "build": [{
          "sources": ["source.null.n"],
          "provisioner": [
            {"shell-local": {"script": "${var.folder}/c.sh"}},
            {"shell-local": {"inline": ["echo \"quoted\"", "${file(\"a.sh\")}"]}}
          ]
        }]
      }
    """,
    )
    found = inputs_of(root, "t.pkr.json")
    assert (files(found), found.unknown) == ({"a.sh", "sub/c.sh"}, ())


def test_older_json_template(root: Path, project: Project) -> None:
    project.write(
        "t.json",
        """
      {
        "variables": {"folder": "sub", "when": "{{timestamp}}", "home": "{{env `HOME`}}"},
        "builders": [{"type": "file", "target": "unrelated.txt", "source": "b.sh"}],
        "provisioners": [
          {"type": "shell-local", "script": "{{user `folder`}}/c.sh"},
          {"type": "shell-local", "scripts": ["{{template_dir}}/a.sh"],
           "execute_command": "{{.Vars}} {{.Script}}"}
        ],
        "post-processors": [[{"type": "manifest", "output": "sub/d e.sh"}], "checksum"]
      }
    """,
    )
    found = inputs_of(root, "t.json")
    assert (files(found), found.unknown) == ({"a.sh", "b.sh", "sub/c.sh"}, ())


OLDER = [
    ('"scripts": "b.sh,sub/c.sh"', {"b.sh", "sub/c.sh"}),
    ('"scripts": "{{user `listed`}}"', {"a.sh", "b.sh"}),
    ('"script": "{{printf `%s/c.sh` (user `folder`)}}"', {"sub/c.sh"}),
    ('"script": "{{replace `X` `a` -1 `X.sh`}}"', {"a.sh"}),
    ('"script": "{{if true}}a.sh{{else}}b.sh{{end}}"', {"a.sh", "b.sh"}),
]


@pytest.mark.parametrize(("step", "expected"), OLDER)
def test_values_in_an_older_json_template(
    root: Path, project: Project, step: str, expected: set[str]
) -> None:
    project.write(
        "t.json",
        """
      {
        "Variables": {"folder": "sub", "listed": "a.sh, b.sh"},
        "builders": [{"type": "null", "communicator": "none"}],
        "provisioners": [{"type": "shell-local", STEP}]
      }
    """.replace("STEP", step),
    )
    assert files(inputs_of(root, "t.json")) == expected


def test_a_block_that_hcl_in_json_has_twice(root: Path, project: Project) -> None:
    project.write(
        "t.pkr.json",
        """
      {
        "source": {"null": {"n": {"communicator": "none"}}},
        "build": {
          "sources": ["null.n"],
          "provisioner": {"shell-local": {"script": "a.sh"}, "shell-local": {"script": "b.sh"}},
          "provisioner": {"shell-local": {"script": "sub/c.sh"}}
        }
      }
    """,
    )
    assert files(inputs_of(root, "t.pkr.json")) == {"a.sh", "b.sh", "sub/c.sh"}
