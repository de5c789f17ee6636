"""Start a program that dies with its parent, if need be under another account (Linux).

``wrap`` gives the command; this file then runs as a script between fork and exec, so that nothing
but exec happens in the fork of a process that has threads. Only the standard library is imported.
"""

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

# capabilities(7): to go anywhere and read anything. Containers have it by default.
CAP_DAC_OVERRIDE = 1

_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAPABILITY_VERSION_3 = 0x20080522


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a child runs as, and the capabilities that it keeps."""

    name: str
    uid: int
    gid: int
    capabilities: tuple[int, ...] = ()


def wrap(
    command: Sequence[str],
    *,
    death_signal: signal.Signals = signal.SIGKILL,
    account: Account | None = None,
) -> list[str]:
    """The command that runs ``command`` and sends it ``death_signal`` when this process dies.

    It must be started by a thread that lives as long as the process: the kernel counts the
    thread that forked as the parent (prctl(2), PR_SET_PDEATHSIG).
    """
    options = [f"--parent={os.getpid()}", f"--signal={int(death_signal)}"]
    if account is not None:
        options += [f"--uid={account.uid}", f"--gid={account.gid}"]
        options += [f"--keep={capability}" for capability in account.capabilities]
    return [sys.executable, "-I", "-S", __file__, *options, "--", *command]


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run a program that dies with its parent.")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--signal", type=int, required=True)
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("--keep", type=int, action="append", default=[])
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def main() -> None:
    asked = _read_arguments()
    if asked.uid is not None:
        _become(asked.uid, asked.gid, asked.keep)
    # After the change of account, which clears it.
    _prctl(_PR_SET_PDEATHSIG, asked.signal)
    if os.getppid() != asked.parent:  # it died before the line above
        sys.exit(0)
    try:
        os.execvp(asked.command[0], asked.command)  # noqa: S606 - this program's purpose
    except OSError as error:
        sys.exit(f"cannot run {asked.command[0]}: {error.strerror}")


def _become(uid: int, gid: int, capabilities: Sequence[int]) -> None:
    try:
        if capabilities:
            # Capabilities outlive the change of account, and access(2) honours them afterwards:
            # initdb asks it whether there is a `postgres` beside it.
            _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        if capabilities:
            _keep(capabilities)
    except OSError as error:
        sys.exit(f"cannot run as uid {uid} with capabilities {capabilities}: {error.strerror}")


def _keep(capabilities: Sequence[int]) -> None:
    mask = sum(1 << capability for capability in capabilities)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Two times (effective, permitted, inheritable): the low and the high 32 capabilities.
    sets = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    for capability in capabilities:
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def _prctl(option: int, *values: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    if ctypes.CDLL(None, use_errno=True).prctl(option, *padded) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main()
