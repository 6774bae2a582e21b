"""The offline block: on PYTHONPATH, Python imports this file at every start, in kernels and child processes as well.

An audit hook sees every connection and every name look-up of the process, cannot be removed, and raises what a machine
without a network raises: OSError. Loopback addresses and Unix sockets pass, or no kernel could be talked to.
"""

import ipaddress
import socket
import sys

LOOK_UPS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
CALLS = {"socket.connect", "socket.sendto", "socket.sendmsg"}


def is_local(host: object) -> bool:
    """True if a host, as given to the socket module, is this machine."""
    name = host.decode() if isinstance(host, bytes) else host
    if name is None or name in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(str(name).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def refuse(event: str, arguments: tuple) -> None:
    """Raise OSError for an event that would leave this machine."""
    if event in LOOK_UPS:
        host = arguments[0]
    elif event in CALLS and arguments[0].family in (socket.AF_INET, socket.AF_INET6) and arguments[1] is not None:
        host = arguments[1][0]
    else:
        return
    if not is_local(host):
        raise OSError(f"offline: {event} to {host!r} is blocked while the course's tests run")


sys.addaudithook(refuse)
