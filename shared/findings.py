"""The 13 findings FirstRay reports: NIH ChestX-ray14 (Wang et al., CVPR 2017) without Hernia.

``key`` is exactly the label of the NIH table and never changes. SNOMED CT concept ids are those of the disorder or
finding in the International Edition, RadLex ids those of RadLex 4.3; both only where verified.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Urgency(StrEnum):
    """How soon someone must act if the finding is there."""

    IMMEDIATE = "immediate"
    """May kill within minutes; act in the ambulance and tell the ER now."""
    URGENT = "urgent"
    """Needs treatment on arrival."""
    ROUTINE = "routine"
    """Needs work-up; does not change the run."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of the vocabulary.

    Attributes:
        key: NIH label, the stable identifier everywhere.
        english: English display name.
        korean: Korean display name.
        snomed: SNOMED CT concept id, or None where none could be verified: a wrong code is worse than none.
        radlex: RadLex id, or None where no single term fits.
        urgency: how soon someone must act.
        explanation: one plain English line for a paramedic.
        explanation_korean: the same in Korean.
    """

    key: str
    english: str
    korean: str
    snomed: str | None
    radlex: str | None
    urgency: Urgency
    explanation: str
    explanation_korean: str


FINDINGS: Final[tuple[Finding, ...]] = (
    Finding(
        "Atelectasis",
        "Atelectasis",
        "무기폐",
        "46621007",
        "RID28493",
        Urgency.ROUTINE,
        "Part of a lung has collapsed and holds no air.",
        "폐의 일부가 쪼그라들어 공기가 차지 않은 상태입니다.",
    ),
    Finding(
        "Cardiomegaly",
        "Cardiomegaly",
        "심비대",
        "8186001",
        None,
        Urgency.ROUTINE,
        "The heart's shadow is larger than normal.",
        "심장 음영이 정상보다 큽니다.",
    ),
    Finding(
        "Effusion",
        "Pleural effusion",
        "흉수",
        "60046008",
        "RID34539",
        Urgency.URGENT,
        "Fluid has gathered between the lung and the chest wall.",
        "폐와 흉벽 사이에 액체가 고여 있습니다.",
    ),
    Finding(
        "Infiltration",
        "Infiltration",
        "폐침윤",
        "409609008",
        None,
        Urgency.ROUTINE,
        "A hazy area of the lung that is denser than air, of no single cause.",
        "폐의 일부가 뿌옇게 보이며 원인은 여러 가지일 수 있습니다.",
    ),
    Finding(
        "Mass",
        "Lung mass",
        "폐종괴",
        "309529002",
        "RID39056",
        Urgency.ROUTINE,
        "A round shadow in the lung wider than 3 cm.",
        "폐에 지름 3 cm보다 큰 둥근 음영이 있습니다.",
    ),
    Finding(
        "Nodule",
        "Lung nodule",
        "폐결절",
        "786838002",
        "RID50149",
        Urgency.ROUTINE,
        "A round shadow in the lung up to 3 cm wide.",
        "폐에 지름 3 cm 이하의 둥근 음영이 있습니다.",
    ),
    Finding(
        "Pneumonia",
        "Pneumonia",
        "폐렴",
        "233604007",
        "RID5350",
        Urgency.URGENT,
        "An infection fills part of the lung.",
        "폐에 감염으로 인한 염증이 있습니다.",
    ),
    Finding(
        "Pneumothorax",
        "Pneumothorax",
        "기흉",
        "36118008",
        "RID5352",
        Urgency.IMMEDIATE,
        "Air around the lung is making it collapse; under tension it stops the heart.",
        "폐 주위에 공기가 차서 폐가 눌립니다. 긴장성이면 심장이 멈출 수 있습니다.",
    ),
    Finding(
        "Consolidation",
        "Consolidation",
        "폐경화",
        "95436008",
        "RID43255",
        Urgency.URGENT,
        "Part of the lung is filled with fluid, pus or blood instead of air.",
        "폐의 일부가 공기 대신 액체, 고름 또는 피로 차 있습니다.",
    ),
    Finding(
        "Edema",
        "Pulmonary edema",
        "폐부종",
        "19242006",
        "RID4866",
        Urgency.IMMEDIATE,
        "Fluid is flooding the lungs, often because the heart is failing.",
        "폐에 물이 차 있으며 흔히 심부전 때문입니다.",
    ),
    Finding(
        "Emphysema",
        "Emphysema",
        "폐기종",
        "87433001",
        "RID4799",
        Urgency.ROUTINE,
        "The lung's air sacs are destroyed and the lung is over-inflated.",
        "폐포가 파괴되어 폐가 지나치게 부풀어 있습니다.",
    ),
    Finding(
        "Fibrosis",
        "Pulmonary fibrosis",
        "폐섬유증",
        "51615001",
        None,
        Urgency.ROUTINE,
        "Scar tissue has stiffened the lung.",
        "폐에 흉터 조직이 생겨 굳어 있습니다.",
    ),
    Finding(
        "Pleural_Thickening",
        "Pleural thickening",
        "흉막비후",
        None,
        None,
        Urgency.ROUTINE,
        "The lining around the lung has thickened.",
        "폐를 싸는 막이 두꺼워져 있습니다.",
    ),
)

KEYS: Final[tuple[str, ...]] = tuple(finding.key for finding in FINDINGS)
BY_KEY: Final[dict[str, Finding]] = {finding.key: finding for finding in FINDINGS}
