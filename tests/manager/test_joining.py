"""Joining a shared run when what is built here changes in that very moment."""

import contextlib
from pathlib import Path

import pytest

from packer_fork import sharing
from packer_fork.errors import LockedError
from packer_fork.inputs.cache import DigestCache
from packer_fork.inputs.declared import Declared
from packer_fork.inputs.record import Inputs, template_inputs
from packer_fork.locks import LockStatus
from packer_fork.manager import joining
from packer_fork.manager.plan import Plan
from tests.support import local_states
from tests.support.local_store import holder

DECLARED = Declared(
    inputs=template_inputs({"a": ({}, Inputs(entries={"packer ": "1.6.6"}))}),
    root="/",
    folders=frozenset(),
    files={},
    loaded=frozenset(),
    evaluated=frozenset(),
    named=lambda _: frozenset(),
    provenance={},
    said=lambda _: "",
    is_ignored=lambda _: False,
    is_output=lambda _: False,
    cache=DigestCache(None),
)


def test_a_plan_of_other_inputs_than_the_run_is_refused(tmp_path: Path) -> None:
    member = local_states.open_store(tmp_path / "t" / "default").try_share(holder("first"))
    assert not isinstance(member, LockStatus)
    with contextlib.closing(member):
        fingerprint, declared = DECLARED.inputs.fingerprint, DECLARED
        member.update(lambda s, _: sharing.opened(s, inputs=fingerprint, run=1, wanted=("a",)))
        joining.check(member, Plan(builds=(), fingerprint=fingerprint, declared=declared))
        with pytest.raises(LockedError, match="changed here while run 1 was joined"):
            joining.check(member, Plan(builds=(), fingerprint="another", declared=declared))
