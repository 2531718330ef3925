"""What msgspec raises at bytes that are no such document; apart, as it imports msgspec."""

from __future__ import annotations

import msgspec

MALFORMED = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
