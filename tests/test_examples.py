"""The example people: complete, and personalized for the prior that is in assets/."""

import json
import re
from pathlib import Path

import pytest

from my3dgen.assets import asset
from my3dgen.evaluation import ready
from my3dgen.personal.adapter import load_adapter
from my3dgen.priors import load_prior
from my3dgen.studio import examples, service
from my3dgen.studio.registry import Registry

PEOPLE = examples.listed()


def test_there_are_six_of_fourteen_photos():
    assert len(PEOPLE) == 6
    assert all(len(person.photos) == 10 and len(person.tests) == 4 for person in PEOPLE)


@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.name)
def test_every_adapter_is_for_this_prior(person):
    adapter = load_adapter(person.adapter)
    load_prior("heads").personalized(adapter)  # raises where it was made for another
    assert len(adapter.anchors) == len(person.photos)
    assert person.fitted["id_sim"]["personalized"] > person.fitted["id_sim"]["pretrained"] + 0.05


@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.name)
def test_every_tab_has_a_ready_result_of_this_adapter(person):
    found = ready.read(Path(person.adapter).parent)
    assert set(found) == set(ready.RECIPES), "make them again: python -m my3dgen.pretraining ready"


def test_the_documents_hold_no_gaps():
    for document in ("README.md", "assets/README.md"):
        assert not re.findall(r"@[A-Z]+@|TODO|FIXME", Path(document).read_text())


def test_what_is_bound_to_the_prior_is_made_for_this_one():
    from safetensors import safe_open

    sha256 = load_prior("heads").sha256
    for name in ("encoder.safetensors", "directions.safetensors"):
        with safe_open(asset(name), "pt") as file:
            assert file.metadata()["prior_sha256"] == sha256, (
                f"{name} belongs to another prior; make it again"
            )


def test_a_chosen_example_is_personalized_already():
    session = Registry().get(None)
    service.load_example(session, "ada")
    model = session.model()
    assert "made beforehand" in model.label and model.report["id_sim"]
    asked = service.fit(session, service.fit_options("heads", 1, 0, 0, False))
    assert list(asked) == [model]  # at once, not fitted again
    json.dumps(model.report)
