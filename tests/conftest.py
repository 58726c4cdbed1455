"""What every room's tests share: which package is under test, seeds, and real data.

Under ``make`` and CI, which set ``RECENGINE_INSTALLED=1``, only the *installed* package is
accepted, never the checkout; without it an in-place build serves for quick work.
``RECENGINE_SEED=n`` gives other random numbers to every test.
"""

from __future__ import annotations

import contextlib
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

import recengine

TESTS = Path(__file__).parent
ROOT = TESTS.parent
FETCHED = {"ml_100k_folder", "minilm_folder", "lite0_folder", "pictures_folder", "speech_folder"}
SEED = os.environ.get("RECENGINE_SEED", "")

sys.path.append(str(TESTS))  # `from oracles import ...`; appended, so that it shadows nothing

hypothesis.settings.register_profile(
    "house",
    deadline=None,
    derandomize=not SEED,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("house")


def is_checkout(package: Path, checkout: Path) -> bool:
    """Tell whether `package`, a folder, is the source folder of `checkout`."""
    return package.resolve() == (checkout / "recengine").resolve()


def pytest_configure(config: pytest.Config) -> None:
    package = Path(recengine.__file__).parent
    if os.environ.get("RECENGINE_INSTALLED") == "1" and is_checkout(package, ROOT):
        raise pytest.UsageError(f"recengine comes from the checkout, {package}: install it")


def pytest_report_header(config: pytest.Config) -> str:
    level = os.environ.get("RECENGINE_SIMD", "best")
    folder = Path(recengine.__file__).parent
    return f"recengine {recengine.__version__} from {folder}, SIMD level: {level}"


def has_nvidia_gpu() -> bool:
    """Tell whether an NVIDIA driver answers here."""
    return Path("/proc/driver/nvidia/version").exists()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not has_nvidia_gpu():
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU: no driver answers here"))
        if FETCHED & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.network)


@pytest.fixture(scope="session", autouse=True)
def outside_checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in an empty folder, so that interpreters started by tests do not see the checkout."""
    with contextlib.chdir(tmp_path_factory.mktemp("work")):
        yield


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Return a number that is this test's own: the same in every run with one RECENGINE_SEED."""
    value = zlib.crc32(f"{SEED}{request.node.nodeid}".encode())
    print(f"seed: {value}")  # pytest shows it when the test fails
    return value


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """Return a generator made from `seed`."""
    return np.random.default_rng(seed)


@pytest.fixture(scope="session")
def ml_100k_folder() -> Path:
    """Return the folder of ml-100k, downloaded on first use."""
    return _fetched("ml-100k")


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """Return the folder of the MiniLM encoder (model.onnx, tokenizer.json)."""
    return _fetched("minilm-l6-int8")


@pytest.fixture(scope="session")
def lite0_folder() -> Path:
    """Return the folder of EfficientNet-Lite0 (its weights; the graph once it was opened)."""
    return _fetched("efficientnet-lite0")


@pytest.fixture(scope="session")
def pictures_folder() -> Path:
    """Return the folder of seven pictures."""
    return _fetched("pictures")


@pytest.fixture(scope="session")
def speech_folder() -> Path:
    """Return the folder of the speech embedding (melspectrogram.onnx, embedding_model.onnx)."""
    return _fetched("speech-embedding")


def _fetched(name: str) -> Path:
    from recengine.data import sources

    return sources.fetch(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with _skipping_offline(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with _skipping_offline(item):
        return (yield)


@contextlib.contextmanager
def _skipping_offline(item: pytest.Item) -> Iterator[None]:
    """Skip a test marked `network` where pip cannot reach its index; any other failure stays."""
    from network import is_offline

    try:
        yield
    except recengine.FetchError as error:
        if item.get_closest_marker("network") is None or not is_offline(str(error)):
            raise
        pytest.skip("needs a download, and pip cannot reach its index")
