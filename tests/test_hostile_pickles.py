"""Hostile pickles never run anything and never take the machine: refused in seconds, in little memory."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import hostile
import official_snapshot
import pytest
from test_official_pickle import Attack, random_generator

from my3dgen.errors import My3DGenError
from my3dgen.priors import load_prior

SECONDS, MEGABYTES = 5, 1000
NAMES = [*hostile.BOMBS, *hostile.OPTIONS, hostile.EXPANDED]
READ_ALL = '''
import json, pathlib, resource, sys, time
from my3dgen import My3DGenError, load_prior


def peak():
    """Megabytes. On Linux ru_maxrss begins with the parent's value, VmHWM does not."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.open() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2  # bytes on macOS


done = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.pkl")):
    start, refused = time.process_time(), None
    try:
        load_prior(path, "cpu")
    except My3DGenError as error:
        refused = str(error)
    done[path.stem] = [refused, time.process_time() - start]
print(json.dumps([done, peak()]))
'''


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Every bomb is read in one process of its own, whose peak says what they took."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, data in hostile.BOMBS.items():
        (folder / f"{name}.pkl").write_bytes(data)
    for name, network in hostile.in_a_network().items():
        official_snapshot.write(folder / f"{name}.pkl", G_ema=network)
    before = set(os.listdir(folder))
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, folder],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert set(os.listdir(folder)) == before  # what they run would leave a file
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_bombs_are_refused(read, name):
    message, seconds = read[0][name]
    assert message is not None, "it was loaded"
    assert name in message and "\n" not in message and len(message) < 600
    assert seconds < SECONDS


def test_bombs_take_little_memory(read):
    assert set(read[0]) == set(NAMES)
    assert read[1] < MEGABYTES


class Setter:
    """A class of the file's own choice whose __setstate__ would act."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __getstate__(self):
        return {"marker": str(self.marker)}

    def __setstate__(self, state):
        Path(state["marker"]).touch()


def test_state_is_given_to_no_class(tmp_path):
    marker = tmp_path / "executed"
    network = official_snapshot.network(random_generator())
    network.meta["state"]["extra"] = Setter(marker)
    network.meta["state"]["_modules"]["more"] = Setter(marker)
    load_prior(official_snapshot.write(tmp_path / "a.pkl", G_ema=network), "cpu")
    assert not marker.exists()
    pickle.loads(pickle.dumps(Setter(marker)))
    assert marker.exists()  # pickle itself falls for it


def test_functions_of_ours_are_all_that_runs(tmp_path):
    marker = tmp_path / "executed"
    for function in (os.system, eval, exec):
        argument = f"touch {marker}" if function is os.system else f"open({str(marker)!r}, 'w')"
        for value in (
            Attack(function, argument),
            {"G_ema": Attack(function, argument)},
            [Attack(map, function, [argument])],
        ):
            (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
            with pytest.raises(My3DGenError):
                load_prior(tmp_path / "a.pkl", "cpu")
    assert not marker.exists()
