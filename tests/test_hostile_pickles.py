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
import torch
from test_official_pickle import Attack, random_generator

from my3dgen.errors import My3DGenError
from my3dgen.models.eg3d.config import GeneratorConfig
from my3dgen.priors import load_prior, official

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
        timeout=300,
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


def test_a_pair_whose_product_is_no_weight_is_refused_before_it_is_computed():
    contents = official._Contents()
    contents.attributes["layer"] = {"scaling": 1.0}
    for a, b in (((1, 10**6), (10**6, 1)), ((2, 4), (4, 3)), ((4,), (4, 1))):
        contents.tensors |= {"layer.lora_A": torch.zeros(a), "layer.lora_B": torch.zeros(b)}
        contents.tensors["layer.weight"] = torch.zeros(4, 4)
        with pytest.raises(My3DGenError, match="no update of its weight"):
            official._take_pairs(contents, kept=True)


@pytest.mark.parametrize("error", [OverflowError, ZeroDivisionError, StopIteration])
def test_whatever_strange_numbers_lead_to_is_one_sentence(tmp_path, error):
    with pytest.raises(My3DGenError, match="not the snapshot"), official._described(tmp_path / "x.pkl"):
        raise error


def test_a_number_as_long_as_a_book_is_refused(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"G_ema": 2**100_000}, protocol=4))
    with pytest.raises(My3DGenError, match="larger number"):
        load_prior(tmp_path / "a.pkl", "cpu")


def test_a_configuration_with_endless_numbers_is_refused():
    for values in ('{"channels": [[1e400, 64]]}', f'{{"camera_pivot": [{10**400}, 0, 0]}}'):
        with pytest.raises(My3DGenError, match="configuration"):
            GeneratorConfig.from_dict(json.loads(values))
