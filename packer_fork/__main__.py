"""``python -m packer_fork``."""

from packer_fork.cli import main

main()
