"""What the value of an attribute may stand for; ``value_role_table`` tells what it does."""

from __future__ import annotations

from enum import StrEnum


class ValueRole(StrEnum):
    """``LOCAL``: a file or folder here, or a list of them. ``LIKELY_LOCAL``: the same, as far as
    the name of the attribute tells. ``WILDCARDS``: globs of them. ``SURROUNDED``: a file whose
    folder counts with it. ``PLAYBOOK``: of Ansible, with its folder and the roles beside that;
    ``INVENTORY``: with the variables beside it.
    ``PROGRAM``: a program or its arguments; ``COMMAND``: a command line that runs here.
    ``URL``: what Packer downloads, or copies from here. ``CHECKSUM``: of that.
    ``OUTPUT``: what a build writes here. ``REMOTE``: a path or command of the machine that is
    built. ``IMAGE``: a base image that a server keeps, or its version. ``TEXT``: names no
    file. ``UNLISTED``: nothing is known of it.
    """

    LOCAL = "local"
    LIKELY_LOCAL = "likely local"
    WILDCARDS = "wildcards"
    SURROUNDED = "surrounded"
    PLAYBOOK = "playbook"
    INVENTORY = "inventory"
    PROGRAM = "program"
    COMMAND = "command"
    URL = "url"
    CHECKSUM = "checksum"
    OUTPUT = "output"
    REMOTE = "remote"
    IMAGE = "image"
    TEXT = "text"
    UNLISTED = "unlisted"


NAMELESS = frozenset((ValueRole.REMOTE, ValueRole.TEXT))
"""Of values that name nothing here."""

NO_INPUT = NAMELESS | {ValueRole.OUTPUT, ValueRole.IMAGE}
"""Of values that name no file here that a build reads."""
