"""The machine that a build runs on, as far as the builder's own words tell. No I/O.

Every builder has its own wording (those of amazon, azure, docker, googlecompute, vsphere
and of all that connect by ssh or winrm, as of 1.6 to 1.16); what is not known is left out.
"""

from __future__ import annotations

import re

from msgspec import structs

from packer_fork.model import Build, BuildStatus, Instance

_ID = re.compile(r"(?:Instance|Container) ID: (\S{1,512})")
_ADDRESS = re.compile(
    r"(?:(?:Public IP|Private IP|IP address|IP): | *-> IP Address\s*: '"
    r"|Using \w+ communicator to connect: )([\w.:%-]{1,255})'?"
)


def noticed(build: Build, text: str) -> Build:
    """`build` after its builder has said `text`; the same if that tells nothing new.

    Once provisioners run, the text may be any script's and is not believed.
    """
    if build.status not in (BuildStatus.PENDING, BuildStatus.CREATING):
        return build
    before = build.instance or Instance(provider=build.type.partition("-")[0])
    after = before
    if found := _ID.fullmatch(text.strip()):
        after = structs.replace(after, id=found[1])
    elif (found := _ADDRESS.fullmatch(text.strip())) and found[1] not in after.addresses:
        after = structs.replace(after, addresses=(*after.addresses, found[1]))
    return build if after == before else structs.replace(build, instance=after)
