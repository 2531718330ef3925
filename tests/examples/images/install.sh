#!/bin/sh
# Whoever runs this says by MIRROR_DOWN whose mirror does not answer.
echo "installing packages of $PACKER_BUILD_NAME"
[ "$MIRROR_DOWN" != "$PACKER_BUILD_NAME" ] || { echo "mirror: connection refused" >&2; exit 1; }
