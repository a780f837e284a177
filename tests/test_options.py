"""Options that make no sense are refused when they are made, not by what they break later."""

import re

import numpy as np
import pytest

import my3dgen
from my3dgen.errors import whole
from my3dgen.personal.hull import HullOptions


@pytest.mark.parametrize(
    ("options", "bad", "says"),
    [
        (
            my3dgen.TuneOptions,
            {"batch": 0},
            "batch of TuneOptions is 0; it must be a whole number from 1 to",
        ),
        (
            my3dgen.TuneOptions,
            {"steps": 2.5},
            "steps of TuneOptions is 2.5; it must be a whole number from 0",
        ),
        (
            my3dgen.TuneOptions,
            {"lr": "fast"},
            "lr of TuneOptions is 'fast'; it must be a number from 0.0",
        ),
        (my3dgen.ProjectOptions, {"micro_batch": True}, "micro_batch of ProjectOptions is True"),
        (my3dgen.ProjectOptions, {"prior_weight": float("nan")}, "prior_weight of ProjectOptions is nan"),
        (my3dgen.ProjectOptions, {"seed": -1}, "seed of ProjectOptions is -1"),
        (my3dgen.TuneOptions, {"seed": 2**64}, "seed of TuneOptions is 18446744073709551616"),
        (my3dgen.TuneOptions, {"seed": 10**400}, "seed of TuneOptions is 1000"),
        (HullOptions, {"beta": -0.1}, "beta of HullOptions is -0.1"),
        (
            HullOptions,
            {"sharpness": 0},
            "sharpness of HullOptions is 0; it must be a number from 0.001",
        ),
        (HullOptions, {"lr": "x" * 10_000}, "lr of HullOptions is 'xxx"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, bad: dict, says: str):
    with pytest.raises(my3dgen.My3DGenError, match=re.escape(says)) as caught:
        options(**bad)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), None, "1", True, 2.5, 11, pytest.param(10**5000, id="huge")]
)
def test_numbers_are_checked(value):
    with pytest.raises(my3dgen.My3DGenError, match="rank is"):
        whole("rank", value, 1, 10)
    assert [whole("rank", good, 1, 10) for good in (3, 3.0, np.int64(3))] == [3, 3, 3]
