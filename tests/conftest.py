"""Fixtures for tests of the served page: pictures to upload, and a running app over stand-in models."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from studio_visit import browser, visit  # noqa: F401 (fixtures)

# two workers (pyproject.toml) and the servers they start share two cores: a thread each, before torch is loaded
os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).parent
ROOT = HERE.parent
SERVER = str(HERE / "studio_server.py")
PEOPLE = {"anna": (210, 150, 120), "ben": (120, 80, 60)}
PATIENT = {"timeout": 120.0}  # for `Client(httpx_kwargs=...)`, which gives up after 5 s
START_SECONDS = 240.0  # patience; how long the real app may take is a test of its own


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for us, for torch and for the Hub."""
    monkeypatch.setenv("MY3DGEN_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.delenv("MY3DGEN_WEIGHTS", raising=False)
    return tmp_path


@dataclass(frozen=True)
class Served:
    """A running app."""

    url: str
    folder: Path  # where Gradio and the sessions keep files
    log: Path  # what the server printed
    cpu_seconds: float  # processor time it took until it answered

    def files(self) -> set[Path]:
        """What is not empty in its folder; some of it may go while this looks."""
        found = set()
        for folder, _, names in os.walk(self.folder):
            for path in (Path(folder) / name for name in names):
                with suppress(FileNotFoundError):
                    if path.stat().st_size:
                        found.add(path)
        return found


def serve(command: list[str], work: Path, **environment: str) -> Iterator[Served]:
    """Run a Python program that serves the page, until the generator is closed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder, log = work / "gradio", work / "server.log"
    settings = os.environ | {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder),
        "PYTHONUNBUFFERED": "1",
    }
    start = time.monotonic()
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=settings | environment, stdout=out, stderr=out
        )
    url = f"http://127.0.0.1:{port}"
    try:
        while not _answers(url):
            assert process.poll() is None, f"the server ended:\n{log.read_text()}"
            assert time.monotonic() - start < START_SECONDS, f"no answer:\n{log.read_text()}"
            time.sleep(0.1)
        yield Served(url, folder, log, _cpu_seconds(process.pid))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:  # or it takes a core from everything that follows
            process.kill()
            raise


def _cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page over the stand-in models of fake_backend.py, with two example people."""
    from fake_backend import cartoon

    work = tmp_path_factory.mktemp("served")
    for name, colour in PEOPLE.items():
        folder = work / "examples" / name
        folder.mkdir(parents=True)
        (folder / "about.json").write_text(json.dumps({"name": name.capitalize()}))
        for kind, count in (("photo", 10), ("test", 4)):
            for i in range(count):
                picture = Image.fromarray(cartoon(colour, 0.08 * (i - count / 2), 0.0, 256))
                picture.save(folder / f"{kind}_{i:02d}.jpg")
    yield from serve([SERVER, "fake"], work, TEST_EXAMPLES=str(work / "examples"))


@pytest.fixture(scope="session")
def real_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page over the real models and example people, with few projection steps."""
    yield from serve([SERVER, "quick"], tmp_path_factory.mktemp("real"), MY3DGEN_PRIOR="heads")


@pytest.fixture
def photos(tmp_path: Path):
    """Make photos of "a person" in one colour: photos((200, 90, 90), 5) -> list of paths."""
    from fake_backend import cartoon

    def make(colour: tuple[int, int, int], count: int) -> list[str]:
        paths = [tmp_path / f"{'_'.join(map(str, colour))}_{i}.jpg" for i in range(count)]
        for i, path in enumerate(paths):
            Image.fromarray(cartoon(colour, 0.1 * (i - count / 2), 0.0, 256)).save(path, quality=95)
        return [str(path) for path in paths]

    return make


@pytest.fixture
def bad_photo(tmp_path: Path) -> str:
    """A file that only claims to be a photo."""
    path = tmp_path / "notes.jpg"
    path.write_text("not a picture")
    return str(path)
