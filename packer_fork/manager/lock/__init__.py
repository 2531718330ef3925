"""Taking, judging and freeing locks."""
