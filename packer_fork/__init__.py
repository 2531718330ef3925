"""packer-fork: Packer builds that run once, resume, queue, and are never lost."""

__version__ = "0.1.0"
