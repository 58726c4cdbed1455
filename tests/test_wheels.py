"""What is promised as a wheel: the table of builds, the flags of each machine, the workflow.

Nothing is built here. ``[tool.cibuildwheel]`` is read as cibuildwheel reads it, without it.
"""

from __future__ import annotations

import platform
import re
import sysconfig
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from building import load_build

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TABLE: dict[str, Any] = PROJECT["tool"]["cibuildwheel"]
WORKFLOW = (ROOT / ".github" / "workflows" / "wheels.yml").read_text()

PYTHONS = [f"cp3{minor}{kind}" for minor in range(9, 17) for kind in ("", "t")]
MACHINES = {"x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64", "AMD64": "x86_64"}
TAGS = {"linux": ["manylinux_{}", "musllinux_{}"], "macos": ["macosx_{}"], "windows": ["win_{}"]}
PROMISED = {
    *("manylinux_x86_64", "manylinux_aarch64", "musllinux_x86_64", "musllinux_aarch64"),
    *("macosx_x86_64", "macosx_arm64", "win_amd64"),
}


def selects(patterns: str, identifier: str) -> bool:
    return any(fnmatchcase(identifier, pattern) for pattern in patterns.split())


def identifiers() -> Iterator[str]:
    """Yield what ``cibuildwheel --print-build-identifiers`` prints, over all platforms."""
    for system, tags in TAGS.items():
        for python, tag, arch in product(PYTHONS, tags, TABLE[system]["archs"]):
            identifier = f"{python}-{tag.format(arch.lower())}"
            if selects(TABLE["build"], identifier) and not selects(TABLE["skip"], identifier):
                yield identifier


def option(name: str, identifier: str) -> list[Any]:
    """Return the values of an option that hold for a build, the appended ones included."""
    values = [TABLE[name]] if name in TABLE else []
    for override in TABLE["overrides"]:
        if name in override and selects(override["select"], identifier):
            appends = override.get("inherit", {}).get(name) == "append"
            values = [*(values if appends else []), override[name]]
    return values


def commands_of(identifier: str) -> list[str]:
    return [command for commands in option("test-command", identifier) for command in commands]


def test_every_promised_platform_is_built() -> None:
    built = set(identifiers())
    for python in ("cp311", "cp312", "cp313"):
        assert {f"{python}-{tag}" for tag in PROMISED} <= built
    assert {name.partition("-")[2] for name in built} == PROMISED
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=3.")
    assert min(int(re.findall(r"^cp3(\d+)", name)[0]) for name in built) == int(oldest)
    assert not any(name.partition("-")[0].endswith("t") for name in built)  # free-threaded


def test_linux_images_are_those_that_numpy_and_numba_have() -> None:
    linux = TABLE["linux"]
    for arch in linux["archs"]:
        assert linux[f"manylinux-{arch}-image"] == "manylinux_2_28"
        assert linux[f"musllinux-{arch}-image"] == "musllinux_1_2"


@pytest.mark.parametrize("identifier", sorted(identifiers()))
def test_test_command_runs_tests_that_exist(identifier: str) -> None:
    commands = commands_of(identifier)
    assert commands[0] == TABLE["test-command"][0]
    for command in commands:
        program, *arguments = command.split()
        assert program == "pytest"
        paths = [word for word in arguments if word.startswith("{project}")]
        assert paths, command
        for path in paths:
            assert (ROOT / path.removeprefix("{project}/")).exists(), path
    (environment, *more) = option("test-environment", identifier)
    assert environment["RECENGINE_INSTALLED"] == "1"  # or the checkout could be what is tested
    assert bool(more) == ("musllinux" in identifier)


def test_musl_gets_every_dependency_but_numba() -> None:
    names = {re.split(r"[<>=]", line)[0] for line in PROJECT["project"]["dependencies"]}
    tools = {re.split(r"[<>=]", line)[0] for line in TABLE["test-requires"]}
    (command,) = option("before-test", "cp311-musllinux_aarch64")
    assert set(command.partition("pip install ")[2].split()) == names - {"numba"} | tools
    assert not any("factorization" in line for line in commands_of("cp311-musllinux_aarch64"))


def test_every_machine_and_instruction_set_has_flags() -> None:
    build = load_build()
    machines = {MACHINES[arch] for system in TAGS for arch in TABLE[system]["archs"]}
    assert machines <= set(build.MACHINE_FLAGS) & set(build.ISA_FLAGS_OF)
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc/simd").glob("*.cpp")}
    kernels = {name for name in sources if "/kernels_" in name or "/als_" in name}
    kernels = {name for name in kernels if not name.endswith("_scalar.cpp")}
    flagged = [name for files in build.ISA_FLAGS_OF.values() for name in files]
    assert sorted(flagged) == sorted(kernels)
    for machine in machines:
        own = set(build.native_sources(machine)) & kernels
        assert own == set(build.ISA_FLAGS_OF[machine])
        assert all(
            any(flag.startswith("-m") for flag in build.ISA_FLAGS_OF[machine][f]) for f in own
        )


def test_csrc_names_nothing_that_windows_lacks() -> None:
    lacking = re.compile(r"aligned_alloc|posix_memalign|__builtin_cpu_supports")
    sources = {path for kind in ("*.h", "*.cpp") for path in (ROOT / "csrc").rglob(kind)}
    sources |= set((ROOT / "recengine").rglob("*.pyx"))
    found = {path.name for path in sources if lacking.search(path.read_text())}
    assert found == {"aligned.h", "dispatch.cpp"}  # the one wraps it, the other says why not


def build_for(monkeypatch: pytest.MonkeyPatch, tag: str, flags: str, host: str) -> ModuleType:
    """Return setup.py as it is on another system."""
    monkeypatch.setattr(sysconfig, "get_platform", lambda: tag)
    monkeypatch.setattr(platform, "machine", lambda: host)
    monkeypatch.setenv("ARCHFLAGS", flags)
    return load_build()


@pytest.mark.parametrize(
    ("tag", "flags", "host", "machine", "wanted"),
    [
        ("linux-x86_64", "", "x86_64", "x86_64", "-fPIC"),
        ("linux-aarch64", "", "aarch64", "aarch64", "-fPIC"),
        ("macosx-10.9-universal2", "-arch x86_64", "arm64", "x86_64", "-arch x86_64"),
        ("macosx-10.9-universal2", "", "arm64", "aarch64", "-arch arm64"),
        ("macosx-11.0-arm64", "-arch arm64", "arm64", "aarch64", "-arch arm64"),
        ("macosx-10.15-x86_64", "", "x86_64", "x86_64", "-arch x86_64"),
        ("win-amd64", "", "AMD64", "x86_64", "-target x86_64-windows-gnu -DMS_WIN64"),
    ],
)
def test_flags_follow_the_target(
    monkeypatch: pytest.MonkeyPatch, tag: str, flags: str, host: str, machine: str, wanted: str
) -> None:
    build = build_for(monkeypatch, tag, flags, host)
    assert machine == build.MACHINE
    assert " ".join(build.SYSTEM_FLAGS) == wanted
    assert ("-Wl,--strip-debug" in build.LINK_FLAGS) == tag.startswith("linux")
    assert set(build.ISA_FLAGS) == set(build.ISA_FLAGS_OF[machine])
    assert any("arm" in flag for flag in build.BASELINE_FLAGS) == (machine == "aarch64")


def test_two_architectures_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="one architecture, got arm64 x86_64"):
        build_for(monkeypatch, "macosx-11.0-universal2", "-arch x86_64 -arch arm64", "arm64")


@pytest.mark.parametrize("arch", ["arm64", "x86_64"])
def test_a_macos_wheel_is_named_by_its_one_architecture(
    monkeypatch: pytest.MonkeyPatch, arch: str
) -> None:
    build = build_for(monkeypatch, "macosx-10.9-universal2", f"-arch {arch}", "arm64")
    (chosen,) = option("environment", f"cp312-macosx_{arch}")
    for name in ("MACOSX_DEPLOYMENT_TARGET", "_PYTHON_HOST_PLATFORM"):
        monkeypatch.setenv(name, "")  # so that monkeypatch undoes what follows
        monkeypatch.delenv(name)
    build.name_macos_target()
    oldest = chosen["MACOSX_DEPLOYMENT_TARGET"]
    assert build.os.environ["MACOSX_DEPLOYMENT_TARGET"] == oldest
    assert build.os.environ["_PYTHON_HOST_PLATFORM"] == f"macosx-{oldest}-{arch}"


def test_windows_brings_its_compiler() -> None:
    (needed,) = [line for line in PROJECT["build-system"]["requires"] if line.startswith("ziglang")]
    assert re.fullmatch(r"ziglang==[\d.]+; sys_platform == 'win32'", needed)


def test_workflow_builds_each_platform_once_and_may_only_read() -> None:
    runs = re.findall(r"- \{ runner: (\S+), archs: (\S+) \}", WORKFLOW)
    systems = {"ubuntu": "linux", "macos": "macos", "windows": "windows"}
    found = [(systems[runner.partition("-")[0]], arch) for runner, arch in runs]
    assert sorted(found) == sorted((s, arch) for s in TAGS for arch in TABLE[s]["archs"])
    assert "\npermissions: {}\n" in WORKFLOW
    assert set(re.findall(r"^ +permissions:\n +(.*)$", WORKFLOW, re.M)) == {"contents: read"}
    assert "write" not in WORKFLOW
    assert "secrets." not in WORKFLOW
    assert re.findall(
        r"^  (\w+):", WORKFLOW.partition("\non:\n")[2].partition("\n\n")[0], re.M
    ) == [
        "push",
        "workflow_dispatch",
    ]
    used = re.findall(r"uses: (\S+)", WORKFLOW)
    assert used
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action) for action in used)


def test_levels_are_those_that_linux_reports() -> None:
    from recengine import _native

    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists() or load_build().MACHINE != "x86_64":
        pytest.skip("needs /proc/cpuinfo of an x86-64 machine")
    has = set(re.findall(r"^flags\s*: (.*)$", cpuinfo.read_text(), re.M)[0].split())
    needs = {
        "avx2": {"avx2", "fma"},
        "avxvnni": {"avx2", "fma", "avx_vnni"},
        "avx512vnni": {"avx2", "fma"}
        | {f"avx512{part}" for part in ("f", "bw", "vl", "dq", "_vnni")},
    }
    assert _native.simd_levels() == [
        "scalar",
        *(name for name, all_of in needs.items() if all_of <= has),
    ]
