import json

import numpy as np
import pytest

from converters.parity import (
    Answers,
    Labelled,
    Parity,
    compare,
    parity_json,
    parity_markdown,
    require_parity,
    top_overlap,
)
from shared.boxes import Detections
from shared.errors import FirstRayError
from shared.findings import KEYS
from training.detection_metrics import Truth

RNG = np.random.default_rng(0)
N = 200
LABELS = (RNG.random((N, 13)) < 0.3).astype(np.float32)
PROBABILITIES = 1 / (1 + np.exp(-(2 * LABELS - 1 + RNG.normal(0, 1, (N, 13)))))
PATIENTS = np.array([f"p{i // 2}" for i in range(N)], object)
BOX = np.array([[0.2, 0.2, 0.5, 0.5]], np.float32)


def boxes(shift: float = 0.0, score: float = 1.0) -> list[Detections]:
    finding = KEYS.index("Effusion")
    return [Detections(BOX + np.float32(shift), np.array([finding]), np.array([score], np.float32)) for _ in range(N)]


KNOWN = Labelled(LABELS, PATIENTS, Truth(boxes(), np.ones((N, 13), bool), PATIENTS))
REFERENCE = Answers("fp32", 1000, PROBABILITIES, boxes(score=0.9))


def measured(variant: Answers) -> Parity:
    return compare(variant, REFERENCE, KNOWN, resamples=200)


def test_a_faithful_variant_passes() -> None:
    noisy = np.clip(PROBABILITIES + RNG.normal(0, 1e-4, PROBABILITIES.shape), 0, 1)
    row = measured(Answers("int8", 500, noisy, boxes(shift=0.001, score=0.8)))
    require_parity([row])
    assert row.top1_agreement > 0.98
    assert row.auc_difference
    assert row.auc_difference.low <= row.auc_difference.value <= row.auc_difference.high
    assert row.map_difference
    assert row.map_difference.value == pytest.approx(0)


@pytest.mark.parametrize(
    ("probabilities", "found", "said"),
    [
        (1 - PROBABILITIES, boxes(), "mean AUC"),
        (np.roll(PROBABILITIES, 1, axis=1), boxes(), "top-1 agreement"),
        (PROBABILITIES, boxes(shift=0.3), "mAP"),
        (np.full_like(PROBABILITIES, np.nan), boxes(), "mean AUC"),
        (np.full_like(PROBABILITIES, 0.5), boxes(), "mean AUC"),
    ],
    ids=["inverted", "findings in another order", "boxes displaced", "not a number", "collapsed to one value"],
)
def test_a_broken_variant_is_refused(probabilities: np.ndarray, found: list[Detections], said: str) -> None:
    good = measured(REFERENCE)
    broken = measured(Answers("int8-onnx", 500, probabilities, found))
    with pytest.raises(FirstRayError, match="int8-onnx") as caught:
        require_parity([good, broken])
    assert caught.value.code == "parity_failed"
    assert said in caught.value.message


def test_top_three_overlap_ignores_their_order() -> None:
    one = np.array([[0.9, 0.8, 0.7, 0.1], [0.9, 0.8, 0.7, 0.1]])
    other = np.array([[0.7, 0.9, 0.8, 0.1], [0.9, 0.8, 0.1, 0.7]])
    assert top_overlap(one, other, 3) == pytest.approx((1 + 2 / 3) / 2)


def test_the_report_reads_as_a_table_and_as_json() -> None:
    rows = [measured(REFERENCE), compare(Answers("keras", 2**20, PROBABILITIES), REFERENCE, None)]
    lines = parity_markdown(rows).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert "| keras | 1.0 | 0.000 / 0.0000 | 100.0% | 100.0% |" in lines[-1]
    read = json.loads(json.dumps(parity_json(rows)))
    assert read[0]["auc_difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert read[1]["map"] is None
