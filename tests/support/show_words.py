"""Put the words after the first into the file that it names, at once, each with a NUL behind."""

import sys
from pathlib import Path

file, *words = sys.argv[1:]
new = Path(f"{file}.new")
new.write_text("".join(f"{word}\0" for word in words), encoding="utf-8")
new.rename(file)
