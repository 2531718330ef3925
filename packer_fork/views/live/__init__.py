"""The live view of a build on a terminal: a row for each source, the log above it."""
