"""One `packer-fork build`: from its plan under the lock to the end of its run."""
