"""The population: plausible people, fixed by the generator."""

import numpy as np
import pytest

from avatar3d.engine.columns import columns_from_vectors, vectors_from_columns
from avatar3d.engine.population import Population, sample, sample_vectors
from avatar3d.spec import BEARD_STYLES, HAIR_COLORS, HAIR_STYLES, TOPS, spec_to_vector


@pytest.fixture(scope="module")
def columns():
    return columns_from_vectors(sample_vectors(np.random.default_rng(0), 40000))


def test_same_generator_same_people():
    a, b = (sample_vectors(np.random.default_rng(5), 100) for _ in range(2))
    assert np.array_equal(a, b)
    assert sample(np.random.default_rng(5)) == sample(np.random.default_rng(5))
    assert sample(np.random.default_rng(5)) != sample(np.random.default_rng(6))


def test_columns_and_vectors_are_inverse(columns):
    few = {name: values[:200] for name, values in columns.items()}
    again = columns_from_vectors(vectors_from_columns(few))
    for name, values in few.items():
        np.testing.assert_allclose(again[name], values, atol=1e-4)


def test_a_sampled_spec_is_its_vector():
    vector = sample_vectors(np.random.default_rng(3), 1)[0]
    np.testing.assert_allclose(spec_to_vector(sample(np.random.default_rng(3))), vector, atol=2e-4)


def test_ages_cover_the_range(columns):
    assert columns["age"].min() < 5.5 and columns["age"].max() > 94
    assert 0.05 < (columns["age"] < 13).mean() < 0.15


def test_only_men_past_boyhood_have_beards(columns):
    bearded = columns["beard_style"] != BEARD_STYLES.index("none")
    young, woman = columns["age"] < 17, columns["gender"] < 0.4
    assert not bearded[young].any()
    assert bearded[woman].mean() < 0.005
    men = (columns["gender"] > 0.6) & (columns["age"] > 26)
    assert 0.4 < bearded[men].mean() < 0.65


def test_grey_hair_and_wrinkles_come_with_age(columns):
    grey = np.isin(columns["hair_color"], [HAIR_COLORS.index("grey"), HAIR_COLORS.index("white")])
    old, young = columns["age"] > 70, columns["age"] < 30
    assert grey[old].mean() > 0.5 and grey[young].mean() < 0.01
    assert columns["wrinkles"][old].mean() > 3 * columns["wrinkles"][young].mean()


def test_bald_heads_are_mostly_those_of_older_men(columns):
    bald = np.isin(columns["hair_style"], [HAIR_STYLES.index("bald"), HAIR_STYLES.index("balding")])
    man = columns["gender"] > 0.6
    assert bald[man & (columns["age"] > 60)].mean() > 0.2
    assert bald[man & (columns["age"] < 18)].mean() < 0.01
    assert bald[~man].mean() < 0.02


def test_skin_follows_ancestry_but_is_continuous(columns):
    assert columns["skin_tone"][columns["african"] > 0.8].mean() > 0.7
    assert columns["skin_tone"][columns["european"] > 0.8].mean() < 0.25
    counts = np.histogram(columns["skin_tone"], 20, (0, 1))[0]
    assert counts.min() > 50


def test_shares_of_glasses_hats_and_dresses(columns):
    assert 0.30 < (columns["glasses"] > 0).mean() < 0.40
    assert 0.13 < (columns["hat"] > 0).mean() < 0.17
    dress = columns["top"] == TOPS.index("dress")
    assert (columns["gender"][dress] < 0.5).mean() > 0.9


def test_face_controls_are_centred_and_within_range(columns):
    spread = []
    for name, values in columns.items():
        if name.startswith("face."):
            assert abs(values.mean()) < 0.2 and np.abs(values).max() <= 1.0
            spread.append(values.std())
    assert min(spread) > 0.14 and max(spread) < 0.4
    noses = np.corrcoef(columns["face.nose_volume"], columns["face.nose_width"])[0, 1]
    assert 0.35 < noses < 0.65


def test_statistics_follow_the_table():
    nobody = Population(hat_share=0.0, glasses_share=(0.0, 0.0, 0.0), face_sd=0.0, face_sds=(), face_means=())
    columns = columns_from_vectors(sample_vectors(np.random.default_rng(0), 500, nobody))
    assert not columns["hat"].any() and not columns["glasses"].any()
    np.testing.assert_allclose(columns["face.nose_width"], 0.0, atol=1e-6)
