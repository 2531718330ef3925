"""Checkouts of git repositories, made without git."""

from pathlib import Path


def with_origin(root: Path, url: str) -> Path:
    """As `git clone` leaves its configuration."""
    git = root / ".git"
    git.mkdir(parents=True, exist_ok=True)
    text = f'[core]\n\tbare = false\n[remote "up"]\n\turl = x\n[remote "origin"]\n\turl = {url}\n'
    (git / "config").write_text(text, encoding="utf-8")
    return root
