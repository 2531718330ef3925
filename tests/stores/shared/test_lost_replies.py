"""Each reply of the servers lost once: nothing is doubled, nothing lost, nothing left behind."""

import pytest

from tests.support.lost_replies import LIVES, Life, assert_lost_replies_do_no_harm
from tests.support.stores import Ground

FIRST = {"etcd": 1, "consul": 2}
"""Each loses every other reply to a write; stress/test_lost_replies.py loses all."""


@pytest.mark.parametrize("life", LIVES)
def test_each_reply_of_it_is_lost_once(shared: Ground, life: Life) -> None:
    assert_lost_replies_do_no_harm(shared, life, first=FIRST[shared.kind], step=2)
