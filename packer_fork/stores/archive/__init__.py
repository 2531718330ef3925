"""History, backups, verification and repair of a state, wherever its files are."""
