"""A server of S3: moto's, with one bucket in memory."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.servers.cluster import Cluster, running
from tests.support.servers.places import LOOPBACK, free_ports
from tests.support.servers.process import Server, ask

BUCKET = "images"

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "of-tests",
    "AWS_REGION": "us-east-1",
}
"""Of anybody: moto lets in whoever signs a request."""


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[Cluster]:
    with free_ports(1) as (port,):
        endpoint = f"{LOOPBACK}:{port}"
        argv = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(port)]

        def ready() -> bool:
            """Whether there is the bucket."""
            ask(endpoint, "PUT", f"/{BUCKET}")
            return bool(ask(endpoint, "GET", f"/{BUCKET}"))

        server = Server("moto", endpoint, argv, folder, ready, lambda: True)
        with running(Cluster([server])) as cluster:
            yield cluster
