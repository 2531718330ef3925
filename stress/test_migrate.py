"""A migration that is killed at any of its calls goes on with the next one."""

import pytest

from tests.conftest import Cli, Project
from tests.support import killed_migrations
from tests.support.queries import built


@pytest.mark.usefixtures("packer", "strace")
def test_a_migration_killed_at_any_call_goes_on(cli: Cli, project: Project) -> None:
    built(cli, project, "1")
    assert killed_migrations.migrate(cli, step=1) > 5
