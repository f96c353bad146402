"""Who is calling, as the transport knows it and never as the request says.

gRPC for Python tells of a caller over a Unix socket nothing but `unix:`, so `front` connects on the caller's behalf
from an address that carries what the kernel says of them, and that address is read here.
"""

from __future__ import annotations

import pwd
import re
from dataclasses import dataclass

_FRONTED = re.compile(r"unix:.*/u(?P<uid>[0-9]+)-p(?P<pid>[0-9]+)-n[0-9]+", re.ASCII)
_TCP = re.compile(r"ipv[46]:(?P<host>.+):[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Peer:
    """A caller: `id` for people and records, `method` says how it is known."""

    id: str
    method: str


def outgoing_name(*, uid: int, pid: int, number: int) -> str:
    """The file name that a connection on behalf of this process is made from; `number` makes it unique."""
    return f"u{uid}-p{pid}-n{number}"


def peer_of(address: str) -> Peer:
    """The caller behind what `context.peer()` says.

    Over a Unix socket that is the user of the process that connected; over loopback TCP anybody on this machine.
    """
    fronted = _FRONTED.fullmatch(address)
    if fronted:
        return Peer(id=_user(int(fronted["uid"])), method="unix-peer")
    tcp = _TCP.fullmatch(address.replace("%5B", "[").replace("%5D", "]"))
    if tcp:
        return Peer(id=tcp["host"].strip("[]"), method="tcp-loopback")
    return Peer(id="unknown", method="unknown")


def _user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
