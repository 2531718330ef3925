"""One module per operation: the only layer that joins inputs, packer and stores."""
