"""Which addresses HTTP tasks may reach."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.addresses import AddressRefused, Guard

REFUSED = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "168.63.129.16",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.168.1.1", "192.88.99.1",
    "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1",
    "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1",
    "fec0::1", "ff02::1", "ff0e::1",
]  # fmt: skip

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.215.14", "172.32.0.1", "100.128.0.1",
    "2606:4700::1111", "2a00:1450:4001::1",
]  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert Guard(()).refuses(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_not_refused(address: str) -> None:
    assert not Guard(()).refuses(ipaddress.ip_address(address))
    assert not Guard(()).refuses(ipaddress.ip_address("::ffff:1.1.1.1"))


def test_what_the_operator_allows_is_not_refused() -> None:
    guard = Guard(("10.1.0.0/16", "::1/128"))
    assert not guard.refuses(ipaddress.ip_address("10.1.2.3"))
    assert not guard.refuses(ipaddress.ip_address("::ffff:10.1.2.3"))
    assert not guard.refuses(ipaddress.ip_address("::1"))
    assert guard.refuses(ipaddress.ip_address("10.2.0.1"))
    assert guard.refuses(ipaddress.ip_address("127.0.0.1"))


@given(st.ip_addresses(v=4))
def test_mapping_into_ipv6_changes_nothing(address: ipaddress.IPv4Address) -> None:
    guard = Guard(("10.0.0.0/8",))
    mapped = ipaddress.ip_address(f"::ffff:{address}")
    assert guard.refuses(address) == guard.refuses(mapped)


def test_a_socket_is_opened_for_an_allowed_address_only() -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))
    with pytest.raises(AddressRefused) as raised:
        Guard(()).open_socket(info)
    assert str(raised.value.address) == "127.0.0.1"
    with Guard(("127.0.0.0/8",)).open_socket(info) as opened:
        assert opened.family == socket.AF_INET


def test_the_zone_of_a_link_local_address_is_no_way_round() -> None:
    info = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1%eth0", 80, 0, 2))
    with pytest.raises(AddressRefused):
        Guard(()).open_socket(info)
