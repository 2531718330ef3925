"""Run a command on a terminal of its own and answer it.

    python terminal_process.py STEPS COMMAND...

STEPS is JSON, ``[[TEXT, ANSWER], ...]``: once TEXT has appeared, ANSWER is typed. All that
appears goes to stdout; then, on stderr, whether the terminal's modes are what they were.
Exits as the command did.
"""

import json
import os
import pty
import sys
import termios
from collections.abc import Iterator


def read(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # nobody has the terminal open any more
            return
        if not data:
            return
        yield data


def main(steps: list[list[str]], command: list[str]) -> int:
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(command[0], command)  # noqa: S606 (no shell)
    before = termios.tcgetattr(terminal)
    seen = b""
    for data in read(terminal):
        os.write(1, data)
        seen += data
        while steps and steps[0][0].encode() in seen:
            text, answer = steps.pop(0)
            seen = seen.partition(text.encode())[2]
            os.write(terminal, answer.encode())
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    same = termios.tcgetattr(terminal) == before
    os.write(2, b"as before" if same else b"changed")
    return code


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), sys.argv[2:]))
