"""The local store: a folder, one state file, kernel locks. Layout in ``layout.py``."""
