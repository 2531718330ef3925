"""The Packer program: finding it, starting it, and what its output means."""
