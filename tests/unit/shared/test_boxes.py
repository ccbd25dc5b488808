"""Decoding, duplicate removal, fusion and overlap of boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.boxes import BINS, Box, Detections, anchor_points, decode, fuse, locate, one_a_place, overlap, suppress
from shared.findings import KEYS
from shared.preprocess import Letterbox

SIDE = 64


def random_detections(rng: np.random.Generator, number: int, findings: int = 3) -> Detections:
    low = rng.uniform(0, 0.7, (number, 2))
    size = rng.uniform(0.05, 0.3, (number, 2))
    corners = np.concatenate([low, low + size], axis=1).astype(np.float32)
    score = rng.permutation(np.linspace(0.1, 0.9, number)).astype(np.float32)
    return Detections(corners, rng.integers(0, findings, number), score)


@st.composite
def detections(draw: st.DrawFn) -> Detections:
    seed, number = draw(st.integers(0, 10_000)), draw(st.integers(1, 25))
    return random_detections(np.random.default_rng(seed), number)


def heads_with_one_box(
    anchor: int, distances: tuple[int, int, int, int], finding: int
) -> tuple[np.ndarray, np.ndarray]:
    """Raw heads of a blank image but for one anchor that is sure of whole-stride distances."""
    number = len(anchor_points(SIDE)[0])
    boxes = np.zeros((1, 4, BINS, number), np.float32)
    for side, distance in enumerate(distances):
        boxes[0, side, distance, anchor] = 50
    scores = np.zeros((1, len(KEYS), number), np.float32)
    scores[0, finding, anchor] = 0.75
    return boxes.reshape(1, 4 * BINS, number), scores


def test_decode_places_a_box_around_its_anchor_point() -> None:
    # 64 anchors of stride 8 (8 x 8), then 16 of stride 16 (4 x 4): the one in row 1, column 2 sits at (40, 24)
    boxes, scores = heads_with_one_box(64 + 4 + 2, (1, 0, 2, 1), KEYS.index("Mass"))
    found = decode(boxes, scores, SIDE, 0.5)
    np.testing.assert_allclose(found.corners, [[40 - 16, 24, 40 + 32, 24 + 16]], atol=1e-4)
    assert [KEYS[f] for f in found.finding] == ["Mass"]
    assert found.score.tolist() == [0.75]
    assert len(decode(boxes, scores, SIDE, 0.8).score) == 0


def test_located_box_is_in_fractions_of_the_radiograph_and_cut_at_its_edge() -> None:
    boxes, scores = heads_with_one_box(64 + 4 + 2, (1, 0, 2, 1), 0)
    landscape = Letterbox.fit(200, 100, SIDE)  # fills the square's width; rows 16..48
    found = locate(boxes, scores, landscape, 0.5)
    np.testing.assert_allclose(found.corners, [[24 / 64, (24 - 16) / 32, 1.0, (40 - 16) / 32]], atol=1e-4)


def test_decode_refuses_heads_of_another_size() -> None:
    boxes, scores = heads_with_one_box(0, (1, 1, 1, 1), 0)
    with pytest.raises(ValueError, match="96 px"):
        decode(boxes, scores, 96, 0.1)


def test_overlap_equals_areas_counted_on_a_grid() -> None:
    rng = np.random.default_rng(1)
    low = rng.integers(0, 30, (12, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 30, (12, 2))], axis=1).astype(np.float32)
    masks = []
    for x1, y1, x2, y2 in boxes.astype(int):
        mask = np.zeros((64, 64), bool)
        mask[y1:y2, x1:x2] = True
        masks.append(mask)
    counted = [[(a & b).sum() / (a | b).sum() for b in masks] for a in masks]
    np.testing.assert_allclose(overlap(boxes, boxes), counted, atol=1e-6)


def test_overlap_with_an_empty_box_is_zero() -> None:
    flat = np.array([[0.2, 0.2, 0.2, 0.6]], np.float32)
    assert overlap(flat, flat).tolist() == [[0.0]]


@settings(deadline=None)
@given(detections(), st.sampled_from([0.2, 0.4, 0.7]))
def test_suppress_keeps_what_torchvision_keeps(found: Detections, max_overlap: float) -> None:
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision.ops")
    corners, finding, score = (torch.from_numpy(np.asarray(part)) for part in found)
    theirs = found.take(ops.batched_nms(corners, score, finding, max_overlap).numpy())
    ours = suppress(found, max_overlap)
    np.testing.assert_array_equal(ours.score, theirs.score)
    np.testing.assert_array_equal(ours.corners, theirs.corners)


@settings(deadline=None)
@given(detections())
def test_fused_boxes_lie_within_what_the_readers_drew(found: Detections) -> None:
    fused = fuse(found)
    assert 0 < len(fused.score) <= len(found.score)
    assert set(fused.finding) == set(found.finding)
    for corners, finding in zip(fused.corners, fused.finding, strict=True):
        drawn = found.corners[found.finding == finding]
        assert (corners >= drawn.min(axis=0) - 1e-5).all()
        assert (corners <= drawn.max(axis=0) + 1e-5).all()


@settings(deadline=None)
@given(detections(), st.integers(0, 100))
def test_fusion_does_not_depend_on_the_order_of_readers(found: Detections, seed: int) -> None:
    shuffled = found.take(np.random.default_rng(seed).permutation(len(found.score)))
    for a, b in zip(fuse(found), fuse(shuffled), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@settings(deadline=None)
@given(detections())
def test_boxes_drawn_twice_alike_fuse_to_the_boxes_drawn_once(found: Detections) -> None:
    apart = suppress(found, 0.0)
    twice = Detections(*(np.concatenate([part, part]) for part in apart))
    for a, b in zip(fuse(twice), apart, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_fused_corners_follow_the_heavier_reader() -> None:
    corners = np.array([[0.0, 0.0, 0.4, 0.4], [0.1, 0.1, 0.5, 0.5]], np.float32)
    fused = fuse(Detections(corners, np.zeros(2, np.int64), np.array([1.0, 0.5], np.float32)), 0.3)
    np.testing.assert_allclose(fused.corners, [corners[0] * 2 / 3 + corners[1] / 3], atol=1e-6)
    np.testing.assert_allclose(fused.score, [0.75])


def test_a_box_that_one_reader_of_three_drew_counts_a_third() -> None:
    one = Detections(np.array([[0.1, 0.1, 0.3, 0.3]], np.float32), np.zeros(1, np.int64), np.ones(1, np.float32))
    np.testing.assert_allclose(fuse(one, readers=3).score, [1 / 3])


def test_nothing_drawn_stays_nothing() -> None:
    assert len(fuse(Detections.none()).score) == len(suppress(Detections.none()).score) == 0


def test_one_place_is_a_mass_or_a_nodule_but_not_both() -> None:
    def box(finding: str, score: float, x: float) -> Box:
        return Box(finding=finding, score=score, x=x, y=0.2, w=0.2, h=0.2, source="detector")

    mass, same, beside = box("Mass", 0.5, 0.1), box("Nodule", 0.4, 0.12), box("Nodule", 0.3, 0.6)
    better = box("Nodule", 0.7, 0.12)
    effusion = box("Effusion", 0.1, 0.1)
    assert one_a_place([effusion, beside, same, mass]) == (effusion, beside, mass)
    assert one_a_place([mass, better]) == (better,)
    assert one_a_place([]) == ()


def test_a_box_inside_a_better_one_of_its_kind_shows_nothing_new() -> None:
    def box(finding: str, score: float, x: float, w: float) -> Box:
        return Box(finding=finding, score=score, x=x, y=0.2, w=w, h=w, source="detector")

    large, inside, nodule = box("Mass", 0.6, 0.1, 0.4), box("Mass", 0.5, 0.2, 0.1), box("Nodule", 0.2, 0.3, 0.05)
    neighbour = box("Mass", 0.3, 0.48, 0.3)
    effusion = box("Effusion", 0.1, 0.2, 0.1)
    assert one_a_place([large, inside, nodule, neighbour, effusion]) == (large, neighbour, effusion)
