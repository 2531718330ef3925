"""What the value of an attribute stands for: one table for all plugins, HCL and JSON alike.

The rows follow the documentation of the plugins. The row of a plugin comes before that of its
kind; the attribute's name decides what neither has. A value whose name says nothing counts
only if it is a file of the project, or is spelt as the path of a folder.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterator, Mapping

from packer_fork.template.value_roles import ValueRole

LOCAL, LIKELY_LOCAL = ValueRole.LOCAL, ValueRole.LIKELY_LOCAL
WILDCARDS, SURROUNDED = ValueRole.WILDCARDS, ValueRole.SURROUNDED
PLAYBOOK, INVENTORY = ValueRole.PLAYBOOK, ValueRole.INVENTORY
PROGRAM, COMMAND = ValueRole.PROGRAM, ValueRole.COMMAND
URL, CHECKSUM, OUTPUT = ValueRole.URL, ValueRole.CHECKSUM, ValueRole.OUTPUT
REMOTE, IMAGE, TEXT = ValueRole.REMOTE, ValueRole.IMAGE, ValueRole.TEXT
UNLISTED = ValueRole.UNLISTED


Row = dict[str, ValueRole]


def _row(names: Mapping[ValueRole, str]) -> Row:
    return {name: role for role, listed in names.items() for name in listed.split()}


_SHELL_LOCAL = _row(
    {
        LOCAL: "script scripts",
        COMMAND: "inline command env environment_vars",
        PROGRAM: "execute_command inline_shebang",
        TEXT: "only_on tempfile_extension valid_exit_codes env_var_format",
    }
)
_REMOTE_SHELL = _row(
    {
        LOCAL: "script scripts",
        REMOTE: "inline inline_shebang env environment_vars env_var_format execute_command"
        " elevated_execute_command remote_folder remote_file remote_path remote_env_var_path"
        " execution_policy",
        TEXT: "elevated_user elevated_password valid_exit_codes",
    }
)
_ANSIBLE = _row(
    {
        PLAYBOOK: "playbook_file playbook_files",
        INVENTORY: "inventory_file",
        LOCAL: "playbook_paths playbook_dir group_vars host_vars inventory_directory galaxy_file"
        " role_paths collection_paths roles_path collections_path ssh_host_key_file"
        " ssh_authorized_key_file sftp_command",
        PROGRAM: "extra_arguments ansible_env_vars command galaxy_command",
        TEXT: "groups empty_groups host_alias user inventory_file_template local_port",
        REMOTE: "staging_directory",
    }
)
_ANSIBLE_LOCAL = _ANSIBLE | _row(
    {
        REMOTE: "staging_directory command galaxy_command galaxy_roles_path"
        " galaxy_collections_path extra_arguments",
        TEXT: "inventory_groups",
    }
)
_CHEF = _row(
    {
        LOCAL: "config_template cookbook_paths roles_path data_bags_path environments_path"
        " encrypted_data_bag_secret_path client_key validation_key_path trusted_certs_dir",
        TEXT: "json run_list chef_environment chef_license node_name server_url version"
        " policy_group policy_name validation_client_name",
        REMOTE: "staging_directory remote_cookbook_paths execute_command install_command"
        " knife_command guest_os_type ssl_verify_mode",
    }
)

_TABLE: Mapping[tuple[str, str], Row] = {
    # provisioners
    ("provisioner", "file"): _row(
        {LOCAL: "source sources", REMOTE: "destination", TEXT: "content direction generated"}
    ),
    ("provisioner", "shell-local"): _SHELL_LOCAL,
    ("provisioner", "shell"): _REMOTE_SHELL,
    ("provisioner", "powershell"): _REMOTE_SHELL,
    ("provisioner", "windows-shell"): _REMOTE_SHELL,
    ("provisioner", "windows-restart"): _row({REMOTE: "restart_command restart_check_command"}),
    ("provisioner", "windows-update"): _row({TEXT: "search_criteria filters username password"}),
    ("provisioner", "breakpoint"): _row({TEXT: "note"}),
    ("provisioner", "hcp-sbom"): _row({REMOTE: "source", OUTPUT: "destination", TEXT: "sbom_name"}),
    ("provisioner", "ansible"): _ANSIBLE,
    ("provisioner", "ansible-local"): _ANSIBLE_LOCAL,
    ("provisioner", "ansible-navigator"): _ANSIBLE
    | _row(
        {LOCAL: "requirements_file", PLAYBOOK: "play.target", TEXT: "play.name play.extra_vars"}
    ),
    ("provisioner", "puppet-masterless"): _row(
        {
            SURROUNDED: "manifest_file",
            LOCAL: "manifest_dir module_paths hiera_config_path",
            REMOTE: "staging_directory working_directory puppet_bin_dir execute_command"
            " extra_arguments guest_os_type",
            TEXT: "facter",
        }
    ),
    ("provisioner", "puppet-server"): _row(
        {
            LOCAL: "client_cert_path client_private_key_path",
            REMOTE: "staging_dir puppet_bin_dir execute_command extra_arguments guest_os_type",
            TEXT: "facter options puppet_node puppet_server",
        }
    ),
    ("provisioner", "chef-*"): _CHEF,
    ("provisioner", "salt-masterless"): _row(
        {
            LOCAL: "local_state_tree local_pillar_roots minion_config grains_file",
            REMOTE: "remote_state_tree remote_pillar_roots temp_config_dir salt_bin_dir"
            " bootstrap_args salt_call_args guest_os_type",
            TEXT: "custom_state formulas log_level",
        }
    ),
    ("provisioner", "converge"): _row(
        {
            LOCAL: "module_dirs.source",
            REMOTE: "module module_dirs.destination working_directory bootstrap_command"
            " execute_command",
            TEXT: "params version",
        }
    ),
    ("provisioner", "inspec"): _row(
        {
            SURROUNDED: "profile",
            LOCAL: "attributes attributes_directory ssh_host_key_file ssh_authorized_key_file",
            PROGRAM: "command extra_arguments inspec_env_vars",
            TEXT: "backend host user local_port",
        }
    ),
    ("provisioner", "goss"): _row(
        {
            LOCAL: "tests vars_file",
            REMOTE: "download_path remote_folder remote_path",
            TEXT: "goss_file vars_inline vars_env format format_options arch version username"
            " password target_os",
        }
    ),
    # builders
    ("source", "file"): _row({LOCAL: "source", OUTPUT: "target", TEXT: "content"}),
    ("source", "qemu"): _row(
        {
            LOCAL: "firmware efi_firmware_code efi_firmware_vars",
            PROGRAM: "qemuargs qemu_img_args qemu_binary",
        }
    ),
    ("source", "docker"): _row(
        {
            OUTPUT: "export_path",
            LOCAL: "build.path build.build_dir",
            REMOTE: "container_dir run_command changes volumes",
            IMAGE: "image",
            TEXT: "author message platform exec_user build.arguments ecr_login",
        }
    ),
    ("source", "lxc"): _row({LOCAL: "config_file template_name", TEXT: "template_parameters"}),
    ("source", "amazon-chroot"): _row(
        {
            LOCAL: "copy_files",
            COMMAND: "command_wrapper pre_mount_commands post_mount_commands",
            REMOTE: "device_path nvme_device_path mount_path chroot_mounts mount_options",
        }
    ),
    ("source", "amazon-instance"): _row(
        {
            LOCAL: "x509_cert_path x509_key_path",
            REMOTE: "x509_upload_path bundle_destination bundle_upload_command bundle_vol_command",
        }
    ),
    ("source", "azure-chroot"): _row(
        {
            LOCAL: "copy_files",
            COMMAND: "command_wrapper pre_mount_commands post_mount_commands",
            REMOTE: "mount_path chroot_mounts mount_options",
            TEXT: "source",
        }
    ),
    ("source", "azure-*"): _row({IMAGE: "image_version shared_image_gallery.image_version"}),
    ("source", "vagrant"): _row({LIKELY_LOCAL: "source_path", IMAGE: "box_version"}),
    ("source", "digitalocean"): _row({IMAGE: "image"}),
    ("source", "hcloud"): _row({IMAGE: "image"}),
    ("source", "googlecompute"): _row({LOCAL: "metadata_files", TEXT: "metadata source_image"}),
    ("source", "hyperv-*"): _row(
        {
            LOCAL: "secondary_iso_images guest_additions_path clone_from_vmcx_path"
            " clone_from_vmxc_path",
            TEXT: "temp_path",
        }
    ),
    ("source", "parallels-*"): _row(
        {
            SURROUNDED: "source_path",
            PROGRAM: "prlctl prlctl_post",
            REMOTE: "parallels_tools_guest_path prlctl_version_file",
        }
    ),
    ("source", "proxmox-*"): _row(
        {
            REMOTE: "iso_file boot_iso.iso_file additional_iso_files.iso_file",
            TEXT: "rng0 disks network_adapters efi_config tpm_config cloud_init_storage_pool"
            " ipconfig clone_vm serials",
        }
    ),
    ("source", "virtualbox-*"): _row(
        {
            PROGRAM: "vboxmanage vboxmanage_post export_opts import_opts import_flags",
            REMOTE: "guest_additions_path virtualbox_version_file",
            TEXT: "attach_snapshot target_snapshot bundle_iso",
        }
    ),
    ("source", "vmware-*"): _row(
        {
            SURROUNDED: "source_path",
            LOCAL: "tools_source_path vmx_template_path vmx_disk_template_path",
            PROGRAM: "vmx_data vmx_data_post ovftool_options",
            REMOTE: "tools_upload_path remote_cache_directory remote_output_directory"
            " remote_datastore remote_cache_datastore",
            TEXT: "fusion_app_path",
        }
    ),
    ("source", "vsphere-*"): _row(
        {
            REMOTE: "iso_paths floppy_img_path remote_cache_path remote_cache_datastore",
            TEXT: "folder cluster host datastore resource_pool notes configuration_parameters"
            " template content_library_destination datacenter storage network_adapters",
            LOCAL: "customize.windows_sysprep_file",
            OUTPUT: "export.output_directory",
        }
    ),
    # post-processors
    ("post-processor", "shell-local"): _SHELL_LOCAL,
    ("post-processor", "artifice"): _row({OUTPUT: "files"}),
    ("post-processor", "checksum"): _row({OUTPUT: "output", TEXT: "checksum_types"}),
    ("post-processor", "compress"): _row({OUTPUT: "output", TEXT: "format"}),
    ("post-processor", "manifest"): _row({OUTPUT: "output", TEXT: "custom_data strip_path"}),
    ("post-processor", "docker-*"): _row({OUTPUT: "path", TEXT: "changes repository tags"}),
    ("post-processor", "vagrant"): _row({OUTPUT: "output", LOCAL: "include vagrantfile_template"}),
    ("post-processor", "vagrant-*"): _row({TEXT: "box_download_url box_tag architecture"}),
    ("post-processor", "googlecompute-export"): _row({REMOTE: "paths"}),
    ("post-processor", "vsphere*"): _row({PROGRAM: "options", TEXT: "vm_folder folder"}),
    # whatever the plugin
    ("source", "*"): _row(
        {
            URL: "iso_url iso_urls source source_path source_url url urls file_urls"
            " guest_additions_url external_source_image_url",
            CHECKSUM: "iso_checksum checksum file_checksum guest_additions_sha256",
            WILDCARDS: "floppy_files floppy_dirs cd_files",
            LOCAL: "http_directory user_data_file ssh_private_key_file ssh_certificate_file"
            " ssh_bastion_private_key_file ssh_bastion_certificate_file floppy_content_file",
            OUTPUT: "iso_target_path",
            REMOTE: "shutdown_command",
            TEXT: "boot_command boot_steps boot_key_interval http_content cd_content cd_label"
            " floppy_content floppy_label user_data startup_script content headers tags run_tags"
            " run_volume_tags snapshot_tags metadata labels iso_target_extension",
        }
    ),
    ("data", "external*"): _row({PROGRAM: "program", TEXT: "query"}),
    ("data", "git-*"): _row({TEXT: "path"}),
    ("data", "amazon-*"): _row({TEXT: "filters owners name version_id version_stage key"}),
    ("data", "http"): _row({TEXT: "url request_body request_headers"}),
    ("data", "null"): _row({TEXT: "input"}),
}

_NO_FILES = frozenset(("build", "packer", "variable", "hcp_packer_registry"))
"""Kinds of blocks whose own attributes name no files."""

_BY_NAME = (
    (WILDCARDS, re.compile("floppy_files|floppy_dirs|cd_files")),
    (PLAYBOOK, re.compile("playbook_files?")),
    (SURROUNDED, re.compile("manifest_file|run_list_file")),
    (
        OUTPUT,
        re.compile(
            "output|output_(?:directory|dir|path|file|filename)|export_path|log_file"
            "|iso_target_path"
        ),
    ),
    (
        REMOTE,
        re.compile(
            "destination|remote_.*|staging_dir(?:ectory)?|mount_path|device_path"
            "|temp_resource_dir|guest_.*|execute_command|shutdown_command"
        ),
    ),
    (
        TEXT,
        re.compile(
            r"(?:.*_)?(?:names?|types?|users?|usernames?|passwords?|ids?|regions?|zones?"
            r"|descriptions?|labels?|tags?|hosts?|hostnames?|buckets?|versions?|tokens?|timeouts?"
            r"|networks?|subnets?|sizes?|ports?|formats?|domains?)"
            r"|only|except|communicator|direction|keep_registered"
        ),
    ),
    (CHECKSUM, re.compile(r"(?:.*_)?(?:checksum|sha256|sha512|md5)")),
    (URL, re.compile(r"(?:iso|file|image|disk|guest_additions)_urls?")),
    (COMMAND, re.compile(r"(?:.*_)?(?:commands?|inline|cmd|cmdline)")),
    (
        PROGRAM,
        re.compile(
            r"(?:.*_)?(?:program|binary|args|arguments|options|opts|flags|envs?|env_vars"
            r"|environment|environment_vars|variables)"
        ),
    ),
    (
        LIKELY_LOCAL,
        re.compile(
            r"(?:.*_)?(?:scripts?|sources?|files?|dirs?|director(?:y|ies)|paths?|urls?|playbooks?"
            r"|roots?|tree|templates?|roles|inventory)"
        ),
    ),
)


@functools.cache
def role_of(kind: str, plugin: str, path: tuple[str, ...]) -> ValueRole:
    """What a value stands for.

    `kind` is the type of the block ("source" for a builder, too), `plugin` the type of its plugin,
    "" if it is not known; `path` leads through nested blocks and objects to the attribute.
    """
    if kind in _NO_FILES:
        return TEXT
    path = _without_override(path)
    rows = list(_rows(kind, plugin))
    for length in range(len(path), 0, -1):
        for row in rows:
            if role := row.get(".".join(path[:length])):
                return role
    inner, *outer = [_by_name(name) for name in reversed(path)] or [UNLISTED]
    if TEXT in outer:
        return TEXT
    listed = (role for role in (inner, *outer) if role is not UNLISTED)
    return next(listed, UNLISTED)


def _rows(kind: str, plugin: str) -> Iterator[Row]:
    if (kind, plugin) in _TABLE:
        yield _TABLE[kind, plugin]
    for (of_kind, pattern), row in _TABLE.items():
        if of_kind == kind and pattern != plugin and fnmatch.fnmatchcase(plugin, pattern):
            yield row


def _without_override(path: tuple[str, ...]) -> tuple[str, ...]:
    """What ``override`` gives one build stands for the same as what it replaces."""
    return path[2:] if len(path) > 2 and path[0] == "override" else path


def _by_name(name: str) -> ValueRole:
    return next((role for role, names in _BY_NAME if names.fullmatch(name)), UNLISTED)
