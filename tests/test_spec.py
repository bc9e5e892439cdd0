"""Specs: JSON and vector round trips, and errors that say the field and the remedy."""

import json

import numpy as np
import pytest

from avatar3d.engine.population import sample
from avatar3d.spec import (
    AvatarSpec,
    SpecError,
    spec_from_json,
    spec_from_vector,
    spec_to_json,
    spec_to_vector,
    vector_layout,
    vector_size,
)


@pytest.fixture(scope="module")
def specs() -> list[AvatarSpec]:
    generator = np.random.default_rng(0)
    return [sample(generator) for _ in range(30)]


def test_json_round_trip_is_exact(specs):
    for spec in specs:
        assert spec_from_json(spec_to_json(spec)) == spec


def test_vector_round_trip_keeps_choices_and_numbers(specs):
    for spec in specs:
        vector = spec_to_vector(spec)
        again = spec_from_vector(vector, spec.seed)
        np.testing.assert_allclose(spec_to_vector(again), vector, atol=2e-4)


def test_layout_tiles_the_vector_without_gaps():
    position = 0
    for e in vector_layout():
        assert e.start == position and e.size == max(1, len(e.choices))
        position += e.size
    assert position == vector_size()


def test_every_vector_becomes_a_valid_spec():
    generator = np.random.default_rng(1)
    for _ in range(50):
        spec_from_vector(generator.normal(0, 3, vector_size()).astype(np.float32), 3)


def test_absent_fields_take_their_defaults():
    assert spec_from_json('{"age": 70}') == AvatarSpec(age=70)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not valid JSON"),
        ('{"age": 70', "not valid JSON"),
        ("[1]", "JSON object"),
        ('{"agee": 70}', "did you mean 'age'"),
        ('{"age": 3}', "age is 3, outside 5 to 95"),
        ('{"age": "old"}', "age must be a number"),
        ('{"age": true}', "age must be a number"),
        ('{"age": NaN}', "age must be a number"),
        ('{"hair_style": "pony tail"}', "did you mean 'ponytail'"),
        ('{"hat": null}', "choose one of: none, beanie"),
        ('{"age": 1e999}', "age is inf, outside"),
        ('{"age": 1' + 400 * "0" + "}", "outside 5 to 95"),
        ('{"age": 1' + 5000 * "0" + "}", "not valid JSON"),
        ('{"face": ' + 9999 * "[", "not valid JSON"),
        ('{"' + 5000 * "z" + '": 1}', r"z ... \(5002 characters\); choose"),
        ('{"seed": -1}', "seed must be a whole number"),
        ('{"seed": 1.5}', "seed must be a whole number"),
        ('{"face": {"nose_widht": 0.1}}', "did you mean 'nose_width'"),
        ('{"face": {"nose_width": 2}}', "face.nose_width is 2, outside -1 to 1"),
        ('{"face": 3}', "face must map"),
        ('{"african": 0, "asian": 0, "european": 0}', "raise at least one"),
    ],
)
def test_bad_json_names_the_fault(text, says):
    with pytest.raises(SpecError, match=says.replace("[", r"\[")):
        spec_from_json(text)


def test_bad_vectors_are_refused():
    with pytest.raises(SpecError, match="shape"):
        spec_from_vector(np.zeros(3, dtype=np.float32), 0)
    with pytest.raises(SpecError, match="not finite"):
        spec_from_vector(np.full(vector_size(), np.nan, dtype=np.float32), 0)


def test_json_holds_every_field_in_order(specs):
    names = list(json.loads(spec_to_json(specs[0])))
    assert names[0] == "seed" and names[-2:] == ["face", "body"] and len(names) == len(set(names))
