"""What values stand for, by the plugin and the path of their attribute, in both languages."""

import pytest

from packer_fork.template import hcl, legacy
from packer_fork.template.contents import Sections
from packer_fork.template.value_role_table import role_of
from packer_fork.template.value_roles import ValueRole

ROLES = [
    ("build sources", "text"),
    ("build hcp_packer_registry.description", "text"),
    ("provisioner file sources", "local"),
    ("provisioner file destination", "remote"),
    ("provisioner hcp-sbom source", "remote"),
    ("provisioner shell-local inline", "command"),
    ("provisioner shell-local env.ROLES", "command"),
    ("provisioner shell inline", "remote"),
    ("provisioner shell environment_vars", "remote"),
    ("provisioner shell remote_folder", "remote"),
    ("provisioner shell override.web.scripts", "local"),
    ("provisioner shell pause_before", "unlisted"),
    ("provisioner powershell elevated_user", "text"),
    ("provisioner ansible playbook_file", "playbook"),
    ("provisioner ansible inventory_file", "inventory"),
    ("provisioner ansible extra_arguments", "program"),
    ("provisioner ansible-local extra_arguments", "remote"),
    ("provisioner puppet-masterless manifest_file", "surrounded"),
    ("provisioner salt-masterless local_state_tree", "local"),
    ("provisioner salt-masterless remote_state_tree", "remote"),
    ("provisioner chef-solo cookbook_paths", "local"),
    ("source qemu firmware", "local"),
    ("source qemu qemuargs", "program"),
    ("source qemu floppy_files", "wildcards"),
    ("source qemu ssh_username", "text"),
    ("source qemu vm_name", "text"),
    ("source qemu boot_command", "text"),
    ("source qemu iso_urls", "url"),
    ("source qemu output_directory", "output"),
    ("source docker image", "image"),
    ("source file source", "local"),
    ("source file target", "output"),
    ("source amazon-chroot copy_files", "local"),
    ("source amazon-ebs tags.Script", "text"),
    ("source proxmox-iso boot_iso.iso_checksum", "checksum"),
    ("source proxmox-iso boot_iso.iso_file", "remote"),
    ("source proxmox-iso additional_iso_files.cd_files", "wildcards"),
    ("source proxmox-iso proxmox_url", "likely local"),
    ("source vmware-vmx source_path", "surrounded"),
    ("source vsphere-iso iso_paths", "remote"),
    ("source virtualbox-iso guest_additions_url", "url"),
    ("post-processor artifice files", "output"),
    ("post-processor vagrant include", "local"),
    ("post-processor shell-local scripts", "local"),
    ("data external program", "program"),
    ("data git-repository path", "text"),
    ("provisioner unheard-of config_file", "likely local"),
    ("provisioner unheard-of setup_command", "command"),
    ("provisioner unheard-of machine_name", "text"),
    ("provisioner unheard-of labels.file", "text"),
    ("provisioner unheard-of whatever", "unlisted"),
]


@pytest.mark.parametrize(("where", "role"), ROLES)
def test_role_of_a_value(where: str, role: str) -> None:
    kind, *plugin, path = where.split()
    assert role_of(kind, "".join(plugin), tuple(path.split("."))) == ValueRole(role)


HCL = """
source "qemu" "a" {
  iso_url = "text"
  nested { firmware_file = "text" }
}
build {
  source "source.qemu.a" { floppy_files = ["text"] }
}
build {
  provisioner "shell" {
    scripts  = ["text"]
    override = { "web" = { scripts = [upper("text")] } }
  }
  dynamic "provisioner" {
    labels   = ["ansible"]
    for_each = ["text"]
    content { playbook_file = provisioner.value }
  }
  post-processors {
    post-processor "compress" { output = "text" }
  }
}
"""
JSON = b"""
{
  "builders": [{"type": "qemu", "iso_url": "text", "nested": [{"firmware_file": "text"}]}],
  "provisioners": [
    {"type": "shell", "scripts": ["text"], "override": {"web": {"scripts": ["text"]}}},
    {"type": "ansible", "playbook_file": "text"}
  ],
  "post-processors": [["manifest", {"type": "compress", "output": "text"}]]
}
"""


def roles(sections: Sections) -> set[str]:
    blocks = sections.builds
    found = [
        *sections.sources.values(),
        *(use.section for block in blocks for use in block.uses or () if use.section),
        *(block.section for block in blocks),
        *(step.section for block in blocks for step in block.steps),
    ]
    return {
        f"{'.'.join(mention.place.path)} {mention.role}"
        for section in found
        for mention in section.mentions
    }


def test_places_of_values_in_both_languages() -> None:
    common = {
        *("iso_url url", "nested.firmware_file likely local", "scripts local"),
        *("override.web.scripts local", "playbook_file playbook", "output output"),
    }
    labels = {"floppy_files wildcards", "labels text", "for_each unlisted"}
    assert roles(hcl.parse(HCL.encode()).sections) == common | labels
    assert roles(legacy.parse(JSON).sections) == common | {"type text"}
