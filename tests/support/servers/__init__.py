"""Real etcd and real Consul, for as long as a test needs them, and what goes wrong with them.

    with etcd_cluster(folder, nodes=3) as cluster:
        cluster.leader().freeze()

Every process is tied to the one that started it by the parent-death signal: even a
`kill -9` of the tests leaves none behind. Start them from the main thread, as that signal
comes when the thread that forked ends.
"""

from tests.support.servers.certificates import Certificates, Signed, certificates
from tests.support.servers.cluster import Cluster
from tests.support.servers.consul import consul_cluster, token_for
from tests.support.servers.etcd import ROOT, User, etcd_cluster, etcdctl
from tests.support.servers.namespaces import Network, namespaces
from tests.support.servers.places import Place, loopback
from tests.support.servers.process import Server, program
from tests.support.servers.proxy import Proxy
from tests.support.servers.s3 import BUCKET, CREDENTIALS, s3_server

__all__ = [
    "BUCKET",
    "CREDENTIALS",
    "ROOT",
    "Certificates",
    "Cluster",
    "Network",
    "Place",
    "Proxy",
    "Server",
    "Signed",
    "User",
    "certificates",
    "consul_cluster",
    "etcd_cluster",
    "etcdctl",
    "loopback",
    "namespaces",
    "program",
    "s3_server",
    "token_for",
]
