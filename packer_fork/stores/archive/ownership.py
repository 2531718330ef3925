"""Which projects may use a state that is in a store of many projects.

Two projects may have a template of one name. The state records the marks of the projects
that use it, and a project whose marks differ from all of them is refused.
"""

from __future__ import annotations

from msgspec import structs

from packer_fork.errors import StateError
from packer_fork.model import Project, Template


class ForeignStateError(StateError):
    """The state belongs to another project. `template`: the recorded one."""

    def __init__(self, location: str, template: Template, theirs: str, ours: str) -> None:
        super().__init__(
            f"the state in {location} belongs to the project {theirs}, not to {ours}",
            hint=(
                "choose another --state or `project`; if both are one project: "
                "packer-fork state adopt"
            ),
        )
        self.template = template


def check(template: Template, project: Project | None, location: str) -> None:
    """Raises ForeignStateError unless `project` may use the state of `template`."""
    if project is None or not template.projects:
        return
    marks = [each.differing_mark(project) for each in template.projects]
    if all(marks) and marks[0] is not None:
        raise ForeignStateError(location, template, *marks[0])


def claimed(template: Template, project: Project | None) -> Template:
    """`template` with `project` among the projects that may use its state."""
    if project is None or project in template.projects:
        return template
    return structs.replace(template, projects=(*template.projects, project))
