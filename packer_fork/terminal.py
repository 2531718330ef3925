"""Text that is harmless wherever it is shown.

What is stored is exact; whatever is shown, or kept to be shown, goes through here.
"""

from __future__ import annotations

import re

_BODY = "[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\\\|\x9c)?"
_CONTROL = (
    "(?P<line>\r+\n?)"
    "|(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor
    f"|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f]){_BODY}"  # OSC, DCS, SOS, PM, APC
    "|\x1b[ -/]*[0-~]?"
    "|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"  # what is left of C0, DEL, C1
    "|[\u202a-\u202e\u2066-\u2069]"  # bidirectional embedding, override, isolate
    "|[\ud800-\udfff]"
)
"""ECMA-48 control functions, terminated or not, and code points that a terminal may act on."""


def clean(text: str) -> str:
    """`text` without what a terminal would act on; tab and newline stay, CR becomes a newline.

    Every sequence begins with a character that never stays, so what is removed
    cannot leave the parts of a new sequence behind.
    """
    if text.replace("\n", "").isprintable():
        return text
    return re.sub(_CONTROL, lambda found: "\n" if found["line"] else "", text)
