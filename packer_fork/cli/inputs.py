"""``packer-fork inputs``: what counts for each build, and how that is known."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from packer_fork.cli import arguments, options
from packer_fork.errors import EXIT_DONE

if TYPE_CHECKING:
    from packer_fork.packer.flags import PackerFlags


def inputs(given: arguments.InputsOptions, flags: PackerFlags) -> int:
    """List what counts for each build, and what is not tracked."""
    from packer_fork.manager.build import input_report
    from packer_fork.manager.build.prepare import BuildRequest
    from packer_fork.views import inputs as view
    from packer_fork.views.document import indented
    from packer_fork.views.plain import PlainView

    request = BuildRequest(
        template=given.template,
        flags=flags,
        settings=arguments.settings(given),
        environ=dict(os.environ),
    )
    console = options.console(color=flags.color)
    found = input_report.report(request, given.build, PlainView(console))
    if given.json:
        console.say(indented(found))
        return EXIT_DONE
    for line in view.lines(found):
        console.say(line)
    return EXIT_DONE
