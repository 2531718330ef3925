#!/bin/sh
echo "checking $PACKER_BUILD_NAME ($PACKER_BUILDER_TYPE)"
