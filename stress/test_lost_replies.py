"""Each reply of etcd, Consul and an object store to a write is lost once."""

import pytest

from tests.stores.shared.conftest import (
    consul_server,
    etcd_server,
    objects_server,
    prefix,
    shared,
)
from tests.support.lost_replies import LIVES, Life, assert_lost_replies_do_no_harm
from tests.support.stores import Ground

__all__ = ["consul_server", "etcd_server", "objects_server", "prefix", "shared"]


@pytest.mark.parametrize("life", LIVES)
def test_each_reply_of_it_is_lost_once(shared: Ground, life: Life) -> None:
    assert_lost_replies_do_no_harm(shared, life)
