"""Responses decoded by many threads of a process that has decoded none before."""

from __future__ import annotations

import subprocess
import sys

from stress.scale import Scale

THREADS = """
import sys, threading
from packer_fork.stores import consul, http_client
sys.setswitchinterval(1e-6)
item = b'{"KV":{"Key":"a","CreateIndex":1,"ModifyIndex":1,"Value":"eA==","Session":"x"}}'
body = b'{"Results":[' + item + b'],"Errors":null}'
start = threading.Barrier(8)
def work():
    start.wait()
    http_client.decode(body, consul.Done)
threads = [threading.Thread(target=work) for _ in range(8)]
for each in threads: each.start()
for each in threads: each.join()
"""


def test_threads_may_decode_at_once(scale: Scale) -> None:
    for _ in range(20 * scale.times):
        done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
