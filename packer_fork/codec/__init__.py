"""Bytes <-> model: stored lines and what is made of them.

A line is compact JSON whose last key is ``digest``: the SHA-256, in hex, of the
stored bytes before that key, so that nothing has to be decoded to check it and no
flipped bit can switch the check off. The first line of a file is a snapshot, each
further one a change that names the digest of the change before it (``prev``; for the
first of a file that is the ``prev`` of the snapshot). A file that begins with the
magic bytes of zstd holds one frame a line instead.
"""
