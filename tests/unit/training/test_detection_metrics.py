"""Figures about boxes, on cases small enough to work out by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from shared.boxes import Detections
from shared.findings import KEYS
from training import detection_metrics as metrics
from training.detection_metrics import Truth

LEFT, RIGHT, BELOW = [0.1, 0.1, 0.3, 0.3], [0.6, 0.1, 0.9, 0.4], [0.1, 0.7, 0.4, 0.9]
MASS, NODULE = KEYS.index("Mass"), KEYS.index("Nodule")


def image(*boxes: tuple[list[float], int, float]) -> Detections:
    if not boxes:
        return Detections.none()
    corners, finding, score = zip(*boxes, strict=True)
    return Detections(np.array(corners, np.float32), np.array(finding), np.array(score, np.float32))


def truth(*images: Detections, known: np.ndarray | None = None) -> Truth:
    everything = np.ones((len(images), len(KEYS)), bool)
    return Truth(images, everything if known is None else known, np.array([f"p{n}" for n in range(len(images))]))


def test_average_precision_by_hand() -> None:
    # best first: hit, miss, hit, then a second box on one already found; 3 reader boxes
    # precision 1, 1/2, 2/3, 2/4 at recall 1/3, 1/3, 2/3, 2/3 -> (1 + 2/3) / 3
    drawn = truth(image((LEFT, MASS, 1), (RIGHT, MASS, 1)), image((BELOW, MASS, 1)))
    found = [image((LEFT, MASS, 0.9), (LEFT, MASS, 0.3)), image((RIGHT, MASS, 0.8), (BELOW, MASS, 0.7))]
    assert metrics.average_precisions(drawn, found)[0, MASS] == pytest.approx((1 + 2 / 3) / 3)


def test_overlap_decides_at_four_tenths() -> None:
    drawn = truth(image(([0.0, 0.0, 1.0, 0.5], MASS, 1)))
    for width, expected in ((0.41, 1.0), (0.39, 0.0)):
        found = [image(([0.0, 0.0, width, 0.5], MASS, 0.9))]
        assert metrics.average_precisions(drawn, found)[0, MASS] == expected


def test_a_box_of_another_finding_does_not_count() -> None:
    drawn = truth(image((LEFT, MASS, 1)))
    precisions = metrics.average_precisions(drawn, [image((LEFT, NODULE, 0.9))])[0]
    assert precisions[MASS] == 0
    assert np.isnan(precisions[NODULE])


def test_images_without_any_reader_box_do_not_enter_average_precision() -> None:
    drawn = truth(image((LEFT, MASS, 1)), image())
    found = [image((LEFT, MASS, 0.5)), image((RIGHT, MASS, 0.9))]
    assert metrics.average_precisions(drawn, found)[0, MASS] == 1


def test_predictions_nobody_checked_are_neither_right_nor_wrong() -> None:
    known = np.ones((2, len(KEYS)), bool)
    known[1, MASS] = False
    drawn = truth(image((LEFT, MASS, 1)), image((LEFT, NODULE, 1)), known=known)
    found = [image((LEFT, MASS, 0.5)), image((RIGHT, MASS, 0.9))]
    assert metrics.average_precisions(drawn, found)[0, MASS] == 1


def test_equal_scores_count_as_one_whatever_their_order() -> None:
    for first, second in ((LEFT, RIGHT), (RIGHT, LEFT)):
        drawn = truth(image((LEFT, MASS, 1)))
        found = [image((first, MASS, 0.5), (second, MASS, 0.5))]
        assert metrics.average_precisions(drawn, found)[0, MASS] == 0.5


def noisy_set(rng: np.random.Generator, images: int, noise: float) -> tuple[Truth, list[Detections]]:
    drawn, found = [], []
    for _ in range(images):
        low = rng.uniform(0, 0.6, 2)
        box = np.concatenate([low, low + rng.uniform(0.1, 0.4, 2)])
        drawn.append(image((box.tolist(), MASS, 1)))
        found.append(image(*[((box + rng.normal(0, noise, 4)).tolist(), MASS, rng.random()) for _ in range(3)]))
    return truth(*drawn), found


def test_intervals_hold_the_value_and_narrow_with_more_images() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for number in (20, 320):
        drawn, found = noisy_set(rng, number, 0.05)
        result = metrics.mean_average_precision(drawn, found, 300)
        assert result.low <= result.value <= result.high
        widths.append(result.high - result.low)
    assert widths[1] < widths[0] / 2


def test_paired_difference_sees_a_small_steady_gain_that_intervals_hide() -> None:
    drawn, found = noisy_set(np.random.default_rng(1), 60, 0.05)
    spoilt = [boxes.take(np.arange(1, 3)) if row % 10 == 0 else boxes for row, boxes in enumerate(found)]
    same = metrics.mean_average_precision_difference(drawn, found, found, 100)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    paired = metrics.mean_average_precision_difference(drawn, found, spoilt, 300)
    alone = metrics.mean_average_precision(drawn, found, 300)
    assert paired.high - paired.low < alone.high - alone.low


def test_resamples_keep_a_patients_images_together() -> None:
    drawn, found = noisy_set(np.random.default_rng(2), 40, 0.05)
    one_patient = Truth(drawn.boxes, drawn.known, np.array(["p"] * 40))
    result = metrics.mean_average_precision(one_patient, found, 50)
    assert result.low == pytest.approx(result.high)


def test_pointing_game_asks_the_best_box_only() -> None:
    drawn = truth(image((LEFT, MASS, 1), (BELOW, NODULE, 1)), image((RIGHT, MASS, 1)))
    found = [
        image((RIGHT, MASS, 0.9), (LEFT, MASS, 0.8), ([0.2, 0.75, 0.3, 0.8], NODULE, 0.1)),
        image((RIGHT, MASS, 0.2)),
    ]
    assert metrics.pointing_game(drawn, found, 50).value == pytest.approx(2 / 3)


def test_sensitivity_at_allowed_false_positives() -> None:
    drawn = truth(image((LEFT, MASS, 1)), image((RIGHT, MASS, 1)))
    found = [image((BELOW, MASS, 0.9), (LEFT, MASS, 0.8)), image((BELOW, MASS, 0.7), (RIGHT, MASS, 0.6))]
    assert metrics.sensitivity_at(drawn, found, 0.0, 50).value == 0
    assert metrics.sensitivity_at(drawn, found, 0.5, 50).value == 0.5
    assert metrics.sensitivity_at(drawn, found, 1.0, 50).value == 1


def test_thresholds_are_a_findings_own_only_with_support() -> None:
    boxes = [image((LEFT, MASS, 1)) for _ in range(6)] + [image((RIGHT, NODULE, 1))]
    found = [image((LEFT, MASS, 0.6), (BELOW, MASS, 0.4)) for _ in range(6)] + [image((RIGHT, NODULE, 0.3))]
    chosen = metrics.score_thresholds(truth(*boxes), found, min_support=5)
    assert chosen.own.tolist() == [key == "Mass" for key in KEYS]
    assert chosen.score[MASS] == pytest.approx(0.6)
    assert chosen.score[NODULE] == pytest.approx(chosen.score[0])


def test_thresholds_do_not_show_a_finding_that_is_mostly_wrong() -> None:
    boxes = [image((LEFT, MASS, 1), (LEFT, NODULE, 1)) for _ in range(6)]
    wrong = [(BELOW, NODULE, 0.3)] * 4
    found = [image((LEFT, MASS, 0.6), *wrong, (LEFT, NODULE, 0.2)) for _ in range(6)]
    chosen = metrics.score_thresholds(truth(*boxes), found, min_support=5, min_precision=0.3)
    assert chosen.own[MASS]
    assert not chosen.own[NODULE]
    assert chosen.score[NODULE] > 0.3


def test_mean_box_baseline_is_the_mean_training_box_scored_by_frequency() -> None:
    train = [image((LEFT, MASS, 1)), image((RIGHT, MASS, 1)), image((BELOW, NODULE, 1)), image()]
    baseline = metrics.mean_box_baseline(train, 2)
    assert len(baseline) == 2
    np.testing.assert_allclose(baseline[0].corners[0], np.mean([LEFT, RIGHT], axis=0), atol=1e-6)
    np.testing.assert_allclose(baseline[0].score, [0.5, 0.25])
