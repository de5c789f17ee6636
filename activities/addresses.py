"""Which addresses HTTP tasks may reach: public ones, and the networks that the operator allows."""

import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Beyond what ipaddress calls not global. IPv6 networks that carry an IPv4 address are refused
# whole: a gateway may take them to a private one.
_REFUSED = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",  # "this network": Linux takes it for loopback
            "100.64.0.0/10",  # carrier-grade NAT, RFC 6598; some clouds' metadata
            "168.63.129.16/32",  # Azure's wire server, a public address that is none
            "192.0.0.0/24",  # IETF protocol assignments, RFC 6890
            "192.88.99.0/24",  # 6to4 relays, RFC 7526
            "240.0.0.0/4",  # reserved, and broadcast
            "::/96",  # IPv4-compatible
            "64:ff9b::/96",  # NAT64, RFC 6052
            "64:ff9b:1::/48",  # NAT64, RFC 8215
            "2001::/23",  # Teredo and others, RFC 2928
            "2002::/16",  # 6to4
            "3fff::/20",  # documentation, RFC 9637
            "5f00::/16",  # segment routing, RFC 9602
            "fec0::/10",  # site-local, RFC 3879
        ),
    )
)


class AddressRefused(OSError):  # noqa: N818  named for what has happened, as all ours
    """An HTTP task would have connected to ``address``, which is not public."""

    def __init__(self, address: Address) -> None:
        # the same text for all of a host's addresses: only then one stands for all of them
        super().__init__("the address is not public")
        self.address = address


class Guard:
    """Lets connections go to public addresses and to ``allowed`` networks only."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = tuple(map(ipaddress.ip_network, allowed))

    def refuses(self, address: Address) -> bool:
        """Whether ``address`` is neither public nor allowed."""
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in self._allowed):
            return False
        return (
            not address.is_global
            or address.is_multicast
            or any(address in network for network in _REFUSED)
        )

    def refuses_host(self, host: str) -> bool:
        """Whether ``host`` is written as an address, and one that is refused."""
        try:
            return self.refuses(ipaddress.ip_address(host.partition("%")[0]))
        except ValueError:
            return False  # a name: where it leads is seen when it is connected to

    def open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for ``info`` (as getaddrinfo gives it); raise AddressRefused.

        It is asked for the very address that is connected to next, so no answer of a name server
        comes between.
        """
        family, kind, protocol, _, target = info
        address = ipaddress.ip_address(str(target[0]).partition("%")[0])
        if self.refuses(address):
            raise AddressRefused(address)
        return socket.socket(family=family, type=kind, proto=protocol)
