"""Small projects in the layouts that templates have in practice, for the audit.

A file whose text begins with ``#!`` is executable. Each reads files that no template names:
scripts that source others, included Makefiles, roles, modules.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

OUTSIDE = "outside"
"""The folder beside the project that a layout may read from."""


class Layout(Struct, frozen=True):
    """``arguments``: of ``packer-fork build``, the template last; ``files``: text by name;
    ``arrange``: makes links, given the project's folder.
    """

    name: str
    arguments: tuple[str, ...]
    files: Mapping[str, str]
    arrange: Callable[[Path], object] = lambda _: None

    def write(self, root: Path) -> None:
        for name, text in self.files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
            path.chmod(0o755 if text.lstrip().startswith("#!") else 0o644)
        self.arrange(root)


_NULL = 'source "null" "{}" {{ communicator = "none" }}\n'


def _nulls(*names: str) -> str:
    return "".join(_NULL.format(name) for name in names)


_MONOREPO = Layout(
    "monorepo: a folder of images, one script each, a shared library",
    ("images",),
    {
        "packer-fork.toml": "",
        "images/sources.pkr.hcl": _nulls("web", "db", "cache"),
        "images/web.pkr.hcl": """
            build {
              sources = ["null.web"]
              provisioner "shell-local" { script = "images/web/install.sh" }
            }
        """,
        "images/db.pkr.hcl": """
            build {
              sources = ["null.db"]
              provisioner "shell-local" { scripts = ["images/db/install.sh", "shared/clean.sh"] }
            }
        """,
        "images/cache.pkr.hcl": """
            build {
              sources = ["null.cache"]
              provisioner "shell-local" { command = "sh shared/clean.sh images/cache" }
            }
        """,
        "images/web/install.sh": """
            #!/bin/sh
            set -e
            here=$(dirname "$0")
            . "$here/../../shared/lib/log.sh"
            . "$here/../../shared/lib/packages.sh"
            install_packages "$here/packages.txt"
            cat "$here"/conf.d/*.conf
        """,
        "images/web/packages.txt": "nginx\n",
        "images/web/conf.d/10-site.conf": "listen 80\n",
        "images/web/conf.d/20-tls.conf": "listen 443\n",
        "images/web/README.md": "About web.\n",
        "images/db/install.sh": """
            #!/bin/sh
            . shared/lib/log.sh
            . shared/lib/packages.sh
            install_packages images/db/packages.txt
        """,
        "images/db/packages.txt": "postgresql\n",
        "images/cache/extra.env": "SIZE=1\n",
        "shared/lib/log.sh": 'log() { echo "$1"; }\n',
        "shared/lib/packages.sh": """
            . shared/lib/retry.sh
            install_packages() { while read -r each; do retry log "$each"; done < "$1"; }
        """,
        "shared/lib/retry.sh": 'retry() { "$@"; }\n',
        "shared/lib/unused.sh": "unused() { :; }\n",
        "shared/clean.sh": """
            #!/bin/sh
            . shared/lib/log.sh
            if [ -n "$1" ]; then . "$1/extra.env"; fi
            test -e shared/skip-cleaning || log clean
        """,
    },
)

_OS_TEMPLATES = Layout(
    "operating systems: one template, variables files, scripts of a list in a local",
    ("-var-file=os/debian/debian-12.pkrvars.hcl", "templates"),
    {
        "packer-fork.toml": "",
        "templates/variables.pkr.hcl": """
            variable "os_name" { type = string }
            variable "answers" { type = string }
            variable "scripts" {
              type    = list(string)
              default = null
            }
        """,
        "templates/sources.pkr.hcl": """
            locals {
              common  = ["_common/update.sh", "_common/motd.sh"]
              by_os   = var.os_name == "debian" ? ["debian/networking.sh"] : ["rhel/repos.sh"]
              scripts = var.scripts == null ? concat(local.common, local.by_os) : var.scripts
            }
            source "file" "vm" {
              content = file("http/${var.answers}")
              target  = "builds/vm.img"
            }
        """,
        "templates/build.pkr.hcl": """
            build {
              sources = ["file.vm"]
              provisioner "shell-local" {
                environment_vars = ["OS=${var.os_name}", "HTTP=${path.root}/http"]
                scripts          = [for each in local.scripts : "${path.root}/scripts/${each}"]
              }
              post-processor "checksum" {
                checksum_types = ["sha256"]
                output         = "builds/vm.{{.ChecksumType}}"
              }
              post-processor "manifest" { output = "builds/manifest.json" }
            }
        """,
        "templates/http/debian/preseed.cfg": "d-i locale string C\n",
        "templates/http/debian/late.sh": "echo late\n",
        "templates/http/rhel/ks.cfg": "lang C\n",
        "templates/scripts/_common/update.sh": """
            #!/bin/sh
            . templates/scripts/_common/lib.sh
            if is_debian; then . templates/scripts/debian/apt.sh; fi
        """,
        "templates/scripts/_common/lib.sh": 'is_debian() { [ "$OS" = debian ]; }\n',
        "templates/scripts/_common/motd.sh": """
            #!/bin/sh
            cat "$(dirname "$0")/motd.txt" "$HTTP/$OS/late.sh"
        """,
        "templates/scripts/_common/motd.txt": "Welcome.\n",
        "templates/scripts/debian/apt.sh": "echo apt\n",
        "templates/scripts/debian/networking.sh": "#!/bin/sh\necho networking\n",
        "templates/scripts/rhel/repos.sh": "#!/bin/sh\necho repos\n",
        "os/debian/debian-12.pkrvars.hcl": 'os_name = "debian"\nanswers = "debian/preseed.cfg"\n',
        "os/rhel/rhel-9.pkrvars.hcl": 'os_name = "rhel"\nanswers = "rhel/ks.cfg"\n',
    },
)

_PLAY = """
    #!/bin/sh
    # As much of a playbook's reading as a shell can do.
    set -e
    folder=$(dirname "$1")
    cat ansible.cfg "$2" > /dev/null
    cat "$folder"/group_vars/*.yml > /dev/null
    for role in $(sed -n 's/^ *- role: //p' "$1"); do
      for part in defaults tasks handlers; do
        if [ -f "roles/$role/$part/main.yml" ]; then cat "roles/$role/$part/main.yml"; fi
      done
      sed -n 's/^ *- include_tasks: //p' "roles/$role/tasks/main.yml" |
        while read -r each; do cat "roles/$role/tasks/$each"; done
      for each in roles/"$role"/templates/*.j2; do [ ! -f "$each" ] || cat "$each"; done
    done
    if [ -f "$folder/host_vars/default.yml" ]; then cat "$folder/host_vars/default.yml"; fi
"""

_ANSIBLE = Layout(
    "playbooks: roles, variables of groups, an inventory",
    ("packer/web.pkr.hcl",),
    {
        "packer-fork.toml": "",
        "packer/web.pkr.hcl": _nulls("web", "db")
        + """
            build {
              sources = ["null.web", "null.db"]
              provisioner "shell-local" {
                only    = ["null.web"]
                command = "./bin/play playbooks/web.yml inventory/hosts"
              }
              provisioner "shell-local" {
                only    = ["null.db"]
                command = "./bin/play playbooks/db.yml inventory/hosts"
              }
            }
        """,
        "bin/play": _PLAY,
        "ansible.cfg": "[defaults]\nroles_path = roles\n",
        "inventory/hosts": "default ansible_connection=local\n",
        "playbooks/web.yml": "- hosts: all\n  roles:\n    - role: common\n    - role: nginx\n",
        "playbooks/db.yml": "- hosts: all\n  roles:\n    - role: common\n    - role: postgres\n",
        "playbooks/group_vars/all.yml": "packages: []\n",
        "roles/common/defaults/main.yml": "zone: UTC\n",
        "roles/common/tasks/main.yml": "- include_tasks: users.yml\n",
        "roles/common/tasks/users.yml": "- user: {name: web}\n",
        "roles/nginx/tasks/main.yml": "- template: {src: site.j2}\n",
        "roles/nginx/templates/site.j2": "listen {{ port }}\n",
        "roles/nginx/handlers/main.yml": "- service: {name: nginx}\n",
        "roles/postgres/tasks/main.yml": "- package: {name: postgresql}\n",
        "roles/unused/tasks/main.yml": "- fail:\n",
    },
)

_CLOUD_INIT = Layout(
    "cloud-init: a seed for each source, made from templates and folders",
    ("cloud.pkr.hcl",),
    {
        "packer-fork.toml": "",
        "cloud.pkr.hcl": """
            variable "hostname" { default = "web-1" }
            source "file" "web" {
              content = replace(file("seeds/web/user-data.tpl"), "HOST", var.hostname)
              target  = "out/web/user-data"
            }
            source "file" "db" {
              source = "seeds/db/user-data"
              target = "out/db/user-data"
            }
            build {
              sources = ["file.web", "file.db"]
              provisioner "shell-local" {
                inline = ["tools/make-seed seeds/${source.name} out/${source.name}.tar"]
              }
              post-processor "checksum" {
                checksum_types = ["md5"]
                output         = "out/{{.BuildName}}.md5"
              }
            }
        """,
        "seeds/web/user-data.tpl": "#cloud-config\nhostname: HOST\n",
        "seeds/web/meta-data": "instance-id: web\n",
        "seeds/web/scripts/boot.sh": "echo boot\n",
        "seeds/db/user-data": "#cloud-config\nhostname: db\n",
        "seeds/db/meta-data": "instance-id: db\n",
        "seeds/vendor-data": "#cloud-config\n",
        "tools/make-seed": """
            #!/bin/sh
            set -e
            mkdir -p "$(dirname "$2")"
            tar -cf "$2" -C "$1" . -C .. vendor-data
        """,
    },
)

_DIRECTORY = Layout(
    "template of several files: file(), fileset(), locals, variables files found by name",
    (".",),
    {
        "packer-fork.toml": "",
        "variables.pkr.hcl": """
            variable "release" {}
            locals {
              settings = jsondecode(file("${path.root}/config/${var.release}.json"))
              motd     = file("${path.root}/files/motd")
              scripts  = [for each in fileset(".", "steps/*.sh") : "${path.root}/${each}"]
            }
        """,
        "release.auto.pkrvars.hcl": 'release = "stable"\n',
        "base.pkr.hcl": """
            source "file" "base" {
              content = "${local.motd}${local.settings.name}"
              target  = "images/base.img"
            }
        """,
        "build.pkr.hcl": """
            build {
              name    = "os"
              sources = ["source.file.base"]
              provisioner "shell-local" { scripts = sort(local.scripts) }
              provisioner "shell-local" { inline = ["cd steps; . ./common.inc; finish"] }
              post-processor "compress" { output = "images/base.tar.gz" }
            }
        """,
        "config/stable.json": '{"name": "stable"}\n',
        "config/testing.json": '{"name": "testing"}\n',
        "files/motd": "Welcome.\n",
        "steps/10-users.sh": "#!/bin/sh\n. ./steps/common.inc\n",
        "steps/20-clean.sh": '#!/bin/sh\nexec sh "$(dirname "$0")/lib/clean"\n',
        "steps/lib/clean": "echo clean\n",
        "steps/common.inc": "finish() { cat ../files/end; }\n",
        "files/end": "Done.\n",
        "files/unused": "Unused.\n",
    },
)

_MAKE = Layout(
    "Makefiles: the template calls make, which includes others and runs scripts",
    ("ubuntu/ubuntu.pkr.hcl",),
    {
        "packer-fork.toml": "",
        "Makefile": "all:\n\tpacker-fork build ubuntu/ubuntu.pkr.hcl\n",
        "ubuntu/ubuntu.pkr.hcl": _nulls("cloudimg", "flat")
        + """
            variable "series" { default = "jammy" }
            build {
              sources = ["null.cloudimg", "null.flat"]
              provisioner "shell-local" {
                inline = ["make -s -C ubuntu SERIES=${var.series} $PACKER_BUILD_NAME.tar"]
              }
              post-processor "shell-local" {
                only   = ["null.flat"]
                inline = [
                  "SOURCE=flat",
                  "IMG_FMT=raw",
                  "ROOT=../output",
                  "cd ubuntu; . ../scripts/fuse-nbd",
                ]
              }
            }
        """,
        "ubuntu/Makefile": """
            include ../scripts/check.mk
            -include local.mk

            %.tar: %/user-data $(wildcard %/*.sh) packages-$(SERIES).txt
            \t$(CHECK) $<
            \ttar -cf $@ $^ $*

        """,
        "ubuntu/cloudimg/user-data": "#cloud-config\n",
        "ubuntu/cloudimg/setup.sh": "echo setup\n",
        "ubuntu/flat/user-data": "#cloud-config\n",
        "ubuntu/packages-jammy.txt": "curl\n",
        "ubuntu/packages-focal.txt": "wget\n",
        "scripts/check.mk": "CHECK = ../scripts/check.sh\n",
        "scripts/check.sh": '#!/bin/sh\n. ../scripts/functions\ncheck "$1"\n',
        "scripts/functions": 'check() { test -s "$1"; }\n',
        "scripts/fuse-nbd": ". ../scripts/functions\ncheck ../scripts/fuse-nbd\n",
    },
)

_JSON = Layout(
    "JSON: user variables, files to upload, scripts for some builders",
    ("-var", "flavor=small", "image.json"),
    {
        "packer-fork.toml": "",
        "image.json": """
            {
              "variables": {"flavor": "", "bundle": "upload/{{env `FLAVOR_SUFFIX`}}base.cfg"},
              "builders": [
                {"type": "file", "name": "seed", "source": "upload/seed.img", "target": "out/seed"},
                {"type": "null", "name": "vm", "communicator": "none"}
              ],
              "provisioners": [
                {
                  "type": "shell-local",
                  "only": ["vm"],
                  "environment_vars": ["UPLOADS=upload/{{user `flavor`}}"],
                  "scripts": ["scripts/{{user `flavor`}}.sh", "{{template_dir}}/scripts/end.sh"]
                },
                {"type": "shell-local", "only": ["seed"], "inline": ["cat {{user `bundle`}}"]}
              ],
              "post-processors": [
                [{"type": "shell-local", "script": "scripts/publish.py"}]
              ]
            }
        """,
        "upload/base.cfg": "base\n",
        "upload/seed.img": "seed\n",
        "upload/small/a.conf": "a\n",
        "upload/small/b/c.conf": "c\n",
        "upload/large/a.conf": "a\n",
        "scripts/small.sh": '#!/bin/sh\ncp -r "$UPLOADS" "${TMPDIR:-/tmp}/uploads-$$"\n',
        "scripts/large.sh": "#!/bin/sh\nfalse\n",
        "scripts/end.sh": "#!/bin/sh\n. scripts/env.sh\n",
        "scripts/env.sh": "END=1\n",
        "scripts/publish.py": """
            #!/usr/bin/env python3
            import publishing.targets
            publishing.targets.publish("{}")
        """.format("scripts/publishing/targets.json"),
        "scripts/publishing/__init__.py": "",
        "scripts/publishing/targets.py": """
            from . import checks
            def publish(path):
                with open(path) as file:
                    checks.check(file.read())
        """,
        "scripts/publishing/checks.py": "def check(text):\n    assert text\n",
        "scripts/publishing/targets.json": "[]\n",
    },
)

_IMAGES = Layout(
    "images: a toolset named for each source, and read by others under computed names",
    ("images.pkr.hcl",),
    {
        "packer-fork.toml": "",
        "images.pkr.hcl": _nulls("u22", "u24", "minimal")
        + """
            build {
              sources = ["null.u22", "null.u24", "null.minimal"]
              provisioner "shell-local" {
                only             = ["null.u22"]
                environment_vars = ["TOOLSET=toolsets/toolset-22.json", "PREVIOUS="]
                scripts          = ["scripts/install.sh", "scripts/report.sh"]
              }
              provisioner "shell-local" {
                only             = ["null.u24"]
                environment_vars = ["TOOLSET=toolsets/toolset-24.json", "PREVIOUS=22"]
                scripts          = ["scripts/install.sh", "scripts/report.sh"]
              }
              provisioner "shell-local" {
                only    = ["null.minimal"]
                command = "/bin/sh scripts/compare"
              }
            }
        """,
        "scripts/install.sh": """
            #!/bin/sh
            set -e
            cat "$TOOLSET"
            [ -z "$PREVIOUS" ] || cat "toolsets/toolset-$PREVIOUS.json"
        """,
        "scripts/report.sh": """
            #!/bin/sh
            set -e
            folder=$(cat scripts/folder)
            cd "$folder"
            cat "$PACKER_BUILD_NAME.md"
        """,
        "scripts/folder": "reports\n",
        "scripts/compare": """
            cd toolsets
            for each in *; do sort "$each"; done | sh ../scripts/finish
        """,
        "scripts/finish": "cat > /dev/null; while read -r each; do cat ../$each; done < ../list\n",
        "list": "reports/u22.md\nscripts/folder\n",
        "reports/u22.md": "22\n",
        "reports/u24.md": "24\n",
        "toolsets/toolset-22.json": "{}\n",
        "toolsets/toolset-24.json": "{}\n",
    },
)


def _link(root: Path) -> None:
    """Links within the project and out of it; a hard link to a file outside."""
    outside = root.parent / OUTSIDE
    (outside / "vendor").mkdir(parents=True)
    (outside / "vendor" / "tool.sh").write_text("echo vendor\n", "utf-8")
    (outside / "shared.conf").write_text("shared\n", "utf-8")
    (outside / "seed.img").write_text("seed\n", "utf-8")
    (root / "releases" / "current").symlink_to("v2")
    (root / "vendor").symlink_to(outside / "vendor")
    os.link(outside / "shared.conf", root / "hard.conf")
    (root / "latest.sh").symlink_to("releases/v2/run.sh")


_LINKS = Layout(
    "links: a current release, a vendored folder outside of the project",
    ("links.pkr.hcl",),
    {
        "packer-fork.toml": "",
        "links.pkr.hcl": """
            source "file" "a" {
              source = "../outside/seed.img"
              target = "out/a.img"
            }
            build {
              sources = ["file.a"]
              provisioner "shell-local" { script = "latest.sh" }
            }
        """,
        "releases/v1/run.sh": "#!/bin/sh\nfalse\n",
        "releases/v2/run.sh": """
            #!/bin/sh
            set -e
            cat releases/current/data hard.conf
            . vendor/tool.sh
        """,
        "releases/v1/data": "1\n",
        "releases/v2/data": "2\n",
    },
    _link,
)

LAYOUTS = (
    _MONOREPO,
    _OS_TEMPLATES,
    _ANSIBLE,
    _CLOUD_INIT,
    _DIRECTORY,
    _MAKE,
    _JSON,
    _IMAGES,
    _LINKS,
)
