"""Familiar maps are near, unfamiliar ones far; what a release stores says the same as what was fitted."""

import json

import numpy as np
import pytest

from shared.familiarity import FEATURES, Familiarity, map_features


def smooth_maps(number: int, seed: int = 0) -> np.ndarray:
    """Maps like a classifier's: a few broad hills, of another height in each map."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(number, 13, 4, 4)) * np.linspace(0.5, 2, 13)[:, None, None]
    return np.repeat(np.repeat(coarse, 3, 2), 3, 3) + rng.normal(0, 0.05, (number, 13, 12, 12))


@pytest.fixture(scope="module")
def familiar() -> Familiarity:
    features = map_features(smooth_maps(2000))
    return Familiarity.of(features.mean(0), np.cov(features.T), 9.0, "made-up maps")


def test_distances_of_familiar_maps_are_those_of_their_features(familiar: Familiarity):
    distances = familiar.distance(smooth_maps(500, seed=1))
    assert np.median(distances) == pytest.approx(FEATURES**0.5, rel=0.08)
    fitted = map_features(smooth_maps(2000))
    centred = map_features(smooth_maps(500, seed=1)) - fitted.mean(0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", centred, np.linalg.inv(np.cov(fitted.T)), centred))
    assert distances == pytest.approx(expected, rel=1e-3)


def test_noise_and_flat_maps_are_far_and_higher_maps_are_not(familiar: Familiarity):
    maps = smooth_maps(20, seed=2)
    usual = familiar.distance(maps)
    noise = np.random.default_rng(3).normal(0, 1, maps.shape)
    assert (familiar.distance(maps + noise) > 2 * usual).all()
    assert (familiar.distance(np.zeros_like(maps)) > 2 * usual).all()
    assert familiar.distance(maps + 5) == pytest.approx(usual, rel=1e-3), "a disease everywhere is not unfamiliar"


def test_unfamiliarity_is_a_multiple_of_the_limit(familiar: Familiarity):
    maps = smooth_maps(1, seed=4)[0]
    assert familiar.unfamiliarity(maps) == pytest.approx(float(familiar.distance(maps)) / 9.0)


def test_a_manifest_keeps_it_exactly_and_small(familiar: Familiarity):
    text = familiar.model_dump_json()
    again = Familiarity.model_validate_json(text)
    maps = smooth_maps(5, seed=5)
    assert np.array_equal(again.distance(maps), familiar.distance(maps))
    assert len(text) < 6000


@pytest.mark.parametrize(
    "change",
    [{"mean": "AAAA"}, {"whitening": ""}, {"mean": "not base64!"}, {"limit": 0.0}, {"mean": "AADAfw==" * 39}],
    ids=["too few", "none", "no Base64", "no limit", "not a number"],
)
def test_numbers_that_cannot_be_right_are_refused(familiar: Familiarity, change: dict[str, object]):
    with pytest.raises(ValueError, match="1 validation error"):
        Familiarity.model_validate_json(json.dumps(familiar.model_dump() | change))
