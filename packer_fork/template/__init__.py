"""A template, read and parsed once for all that depends on it: HCL, its JSON syntax, older JSON."""
