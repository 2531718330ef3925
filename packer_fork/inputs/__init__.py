"""What a build depends on: a fingerprint by input, and what differs between two of them.

`collect.collect` is the way in. Packer itself is not called from here: what needs
it (evaluated expressions, versions) is handed in with the request.
"""
