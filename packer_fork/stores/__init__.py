"""Where states and locks are kept: one protocol, one module or folder per store."""
