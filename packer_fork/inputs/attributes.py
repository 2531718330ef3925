"""What is known of attributes by their names: which hold outputs, local files, remote paths."""

from __future__ import annotations

import re
from collections.abc import Iterable

from packer_fork.inputs.mentions import Mention

_OUTPUTS = frozenset(
    (
        *("output_directory", "output_dir", "output", "output_path", "output_filename"),
        *("output_file", "export_path", "log_file", "iso_target_path"),
    )
)
_OUTPUTS_OF = frozenset(
    (
        *(("source file", "target"), ("builder file", "target")),
        *(("post-processor artifice", "files"), ("post-processor docker-save", "path")),
    )
)

_ELSEWHERE = frozenset(
    (
        *("destination", "remote_path", "remote_folder", "remote_file", "staging_directory"),
        *("staging_dir", "mount_path", "device_path", "temp_resource_dir", "guest_os_type"),
        *("name", "vm_name", "description", "type", "only", "except", "communicator"),
        *("direction", "labels", "packer_build_name", "keep_registered"),
    )
)
"""Attributes that speak of the machine being built, or name no file at all."""

_LOCAL = re.compile(
    r"(?:.*_)?(?:scripts?|sources?|files?|dirs?|director(?:y|ies)|paths?|urls?|playbooks?"
    r"|roots?|tree|templates?|roles|inventory|checksum|content|key)"
)

_SURROUNDED = frozenset(
    ("playbook_file", "playbook_files", "playbook_paths", "manifest_file", "run_list_file")
)
_URLS = frozenset(("iso_url", "iso_urls", "source", "source_path", "source_url", "url", "urls"))


def is_output(mention: Mention) -> bool:
    kind = mention.block.partition(".")[0].partition(" #")[0]
    return mention.attribute in _OUTPUTS or (kind, mention.attribute) in _OUTPUTS_OF


def is_elsewhere(mention: Mention) -> bool:
    of_build = mention.attribute == "sources" and mention.block == "build"
    return (mention.attribute in _ELSEWHERE or of_build) and not mention.opened


def downloads(mentions: Iterable[Mention]) -> frozenset[str]:
    """The blocks of file provisioners whose sources lie on the machine being built."""
    return frozenset(
        mention.block
        for mention in mentions
        if mention.attribute == "direction" and mention.parts == ("download",)
    )


def is_remote_source(mention: Mention, downloads: frozenset[str]) -> bool:
    return mention.attribute in ("source", "sources") and mention.block in downloads


def is_local(mention: Mention) -> bool:
    """Whether it is about files here, so that even a path outside the project is meant."""
    return mention.opened or _LOCAL.fullmatch(mention.attribute) is not None


def is_surrounded(mention: Mention) -> bool:
    """Whether the program that is given this file reads what lies around it, too."""
    return mention.attribute in _SURROUNDED


def is_fetched(mention: Mention) -> bool:
    """Whether a URL here is fetched by Packer as what a machine is built from."""
    return mention.attribute in _URLS and mention.block.startswith(("source ", "builder "))
