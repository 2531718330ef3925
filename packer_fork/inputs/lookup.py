"""Which files and folders a template refers to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from packer_fork.inputs import ansible, globs, texts
from packer_fork.inputs.request import InputsRequest
from packer_fork.inputs.texts import Values
from packer_fork.inputs.tree import Tree
from packer_fork.template.contents import ANYTHING, Mention
from packer_fork.template.value_roles import NO_INPUT, ValueRole

_VIRTUAL = ("/", "/proc", "/sys", "/dev", "/run")
_PREFIXES = ("file://", "file:", "@")
_WORDS = frozenset((ValueRole.COMMAND, ValueRole.PROGRAM, ValueRole.UNLISTED))
"""Roles of values whose words may be files."""

_FILE_LIKE = re.compile(r".*(?:/|\.[A-Za-z][A-Za-z0-9]{0,9}$)", re.DOTALL)
"""Words that are files of the project, and not so by chance, where nothing else tells."""

_HERE = frozenset((".", "..", "./", "../"))


class Lookup:
    """Adds to a tree whatever exists of what is mentioned."""

    def __init__(self, request: InputsRequest, tree: Tree) -> None:
        self._tree = tree
        self._recorder = tree.tracer
        self._root = os.path.realpath(request.root)
        self._folders = [str(folder) for folder in request.folders]
        self._request = request
        self._home = request.environ.get("HOME", "")

    def add_all(self, mentions: Sequence[Mention], values: Values) -> None:
        for mention, role in texts.with_roles(mentions, values):
            if role not in NO_INPUT:
                self._tree.mention = mention
                for text in values.texts(mention):
                    self._add_text(text.strip(), role)
                    if "," in text and not mention.opened and role not in _WORDS:
                        for each in text.split(","):
                            self._add_text(each.strip(), role)

    def record_contents(self, mentions: Sequence[Mention], values: Values) -> list[str]:
        """Of files that Packer reads itself, in its own or in the template's folder: the texts."""
        named = dict.fromkeys(text for each in mentions for text in values.texts(each))
        return [self._record_content(path) for text in named for path in self._existing(text)]

    def add_settings_of_ansible(self, mentions: Sequence[Mention], values: Values) -> None:
        """ansible.cfg, and what of the project it and the environment set as paths."""
        self._tree.mention = None
        here, environ = self._folders[0], dict(self._request.environ)
        for mention in mentions:
            if mention.place.path == ("ansible_env_vars",):
                given = (text.partition("=") for text in values.texts(mention))
                environ |= {name: value for name, _, value in given}
        config = os.path.join(here, environ.get("ANSIBLE_CONFIG", "ansible.cfg"))  # noqa: PTH118
        self._record_content(config)
        paths = [*ansible.of_settings(config, here), *ansible.of_environment(environ, here)]
        for path in (config, *paths):
            self._add_inside(path)

    def _record_content(self, path: str) -> str:
        """The text of a file that decides what else counts, "" if there is none."""
        if not self._recorder.exists(path):
            return ""
        try:
            digest, is_settled = self._tree.digest(path)
            self._recorder.content(path, digest)
            self._recorder.is_lost |= not is_settled
            return Path(path).read_text("utf-8", "replace")
        except OSError:
            self._recorder.is_lost = True
            return ""

    def _add_inside(self, path: str) -> None:
        if self._recorder.exists(path) and not self._is_outside(path, path) and path != self._root:
            self._tree.add(path, named=True)

    def add_glob(self, glob: str) -> None:
        """Files that the user names, relative to the project; a folder with all in it."""
        if self._recorder.exists(f"{self._root}/{glob}"):
            self._tree.add(os.path.normpath(f"{self._root}/{glob}"))
            return
        pattern = globs.pattern(glob)
        start = f"{self._root}/{globs.fixed_folder(glob, '*?')}".rstrip("/")
        for path in self._tree.below(start):
            if pattern.fullmatch(os.path.relpath(path, self._root)):
                self._tree.add(path)

    def _add_text(self, text: str, role: ValueRole) -> None:
        if role is ValueRole.WILDCARDS:
            self._add_wildcards(text)
        elif texts.is_path(text):
            self._add_path(text, role)
        if role in _WORDS:
            for word in texts.words(text):
                if word.text != text:
                    self._add_word(word, role)

    def _add_path(self, text: str, role: ValueRole) -> None:
        if role is ValueRole.CHECKSUM and not text.startswith("file:"):
            return
        for prefix in _PREFIXES:
            text = text.removeprefix(prefix)
        if role is ValueRole.URL:
            text = text.partition("?")[0]
        text = self._request.here(text)
        local = role not in _WORDS
        if "://" in text or not text or (text in _HERE and not local):
            return
        if ANYTHING in text:
            self._add_open(text, local=local)
            return
        for path in self._existing(text):
            outside = self._is_outside(path, text)
            if self._is_meant(path, text, role, outside=outside):
                self._add(path, role, outside=outside)

    def _is_meant(self, path: str, text: str, role: ValueRole, *, outside: bool) -> bool:
        """Whether something that exists is what the template names, and not so by chance."""
        is_file = not os.path.isdir(path)  # noqa: PTH112
        if role in _WORDS:
            return not outside and (is_file or role is ValueRole.PROGRAM or "/" in text)
        if outside and role is ValueRole.LIKELY_LOCAL:
            return is_file
        return not outside or path not in _VIRTUAL

    def _add(self, path: str, role: ValueRole, *, outside: bool) -> None:
        self._tree.add(path, named=True, outside=outside)
        folder = Path(path).parent
        if role in (ValueRole.SURROUNDED, ValueRole.PLAYBOOK):
            self._tree.add(str(folder), outside=outside)
        if role is ValueRole.PLAYBOOK:
            for name in ansible.BESIDE_FOLDER:
                self._recorder.exists(str(folder / name))
                if not (folder / name).exists():
                    self._add_inside(str(folder.parent / name))
        if role is ValueRole.INVENTORY:
            for name in ansible.BESIDE_INVENTORY:
                self._add_inside(str(folder / name))

    def _add_word(self, word: texts.Word, role: ValueRole) -> None:
        """A word of a longer text: folders are named by chance unless they are spelt as such."""
        text = self._request.here(word.text)
        if text in _HERE:
            return
        if ANYTHING in text:
            self._add_open(text, local=False)
            return
        if not globs.WILD.isdisjoint(text) and role is not ValueRole.UNLISTED:
            if text.strip("*./"):
                self._add_wildcards(text, outside=False)
            return
        for path in self._existing(text):
            if not self._is_outside(path, text) and self._is_meant_word(path, text, word, role):
                self._tree.add(path, named=True)

    def _is_meant_word(self, path: str, text: str, word: texts.Word, role: ValueRole) -> bool:
        if os.path.isfile(path):  # noqa: PTH113
            return role is not ValueRole.UNLISTED or _FILE_LIKE.fullmatch(text) is not None
        return role is not ValueRole.UNLISTED and (word.assigned or "/" in text)

    def _add_wildcards(self, text: str, *, outside: bool = True) -> None:
        """What a shell, or the plugin, expands; a name that exists is taken as it stands."""
        text = self._request.here(text)
        if not texts.is_path(text):
            return
        if ANYTHING in text:
            self._add_open(text, local=outside)
            return
        literal = list(self._existing(text))
        for path in literal:
            self._tree.add(path, named=True, outside=self._is_outside(path, text))
        if literal or (self._is_outside(text, text) and not outside):
            return
        for folder in self._folders:
            for path in self._tree.glob(folder, text):
                self._tree.add(self._plain(path), outside=self._is_outside(path, text))

    def _add_open(self, text: str, *, local: bool) -> None:
        """Whatever `text` may turn out to name once its unknown parts are known."""
        if not (text.strip(f"{ANYTHING}./") or local):
            return
        text = os.path.normpath(text)
        fixed = globs.fixed_folder(text, f"{ANYTHING}*?[")
        pattern = globs.open_glob(text)
        for folder in self._existing(fixed or "."):
            if self._is_outside(folder, fixed):
                continue
            for path in self._tree.below(folder):
                beginning = f"{fixed}/" if fixed else ""
                if pattern.fullmatch(beginning + os.path.relpath(path, folder)):
                    self._tree.add(path)

    def _existing(self, text: str) -> Iterator[str]:
        if text.startswith("~/") and self._home:
            text = f"{self._home}{text[1:]}"
        if "\0" in text:
            return
        for path in dict.fromkeys(os.path.join(f, text) for f in self._folders):  # noqa: PTH118
            if self._recorder.exists(path):
                yield self._plain(path)
            else:
                self._tree.named.add(self._plain(path))

    def _plain(self, path: str) -> str:
        """Without ``.`` and ``..``; symlinks matter only where a ``..`` follows them."""
        if ".." not in path.split("/"):
            return os.path.normpath(path)
        folder, name = os.path.split(path.rstrip("/"))
        if name == "..":
            return self._recorder.real_path(path)
        return os.path.normpath(f"{self._recorder.real_path(folder)}/{name}")

    def _is_outside(self, path: str, text: str) -> bool:
        """Whether an absolute path (or the home folder) leads out of the project."""
        absolute = text.startswith(("/", "~"))
        return absolute and path != self._root and not path.startswith(f"{self._root}/")
