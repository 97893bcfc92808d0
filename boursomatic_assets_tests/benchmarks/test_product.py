"""What the storms and the tests of the running product have in common."""

from __future__ import annotations

from pathlib import Path

from benchmarks.product import free_port


def test_a_free_port_is_given_once_and_no_connection_gets_it() -> None:
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == len(ports)
    # From here on the system gives ports to connections.
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(ports) < lowest
