"""FirstRay's own reading, stage by stage: the same calls as ``firstray diagnose --out``, in one process that stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from benchmarks.readers import Clock, Setting, boxed_image
from shared.diagnosis import Diagnoser
from shared.overlay import draw, save
from shared.radiograph import load_radiograph, warm_up
from shared.release import Precision, load_release
from shared.variants import RuntimeChoice

STAGES = ("decode", "gate", "prepare", "classifier", "detector", "decide", "draw", "save")
BOTH_MODELS = ("classifier", "detector")


class FirstRay:
    """Reads with one variant of the release.

    ``force`` reads on where the gate refuses, so that every stage is timed; ``facts["accepted"]`` says what it decided.
    """

    def __init__(self, setting: Setting) -> None:
        warm_up()
        self._dicom = Path(setting.dicom)
        self._diagnoser = Diagnoser(
            load_release(Path(setting.release)),
            cast(Precision, setting.precision),
            cast(RuntimeChoice, setting.runtime),
            setting.threads,
        )
        self.facts: dict[str, Any] = {"variant": self._diagnoser.variant.id}
        self._out = boxed_image(setting, f"firstray-{self.facts['variant']}")

    def __call__(self) -> dict[str, float]:
        clock = Clock()
        with clock("total"):
            with clock("decode"):
                radiograph = load_radiograph(self._dicom)
            diagnosis = self._diagnoser.diagnose(radiograph, force=True)
            with clock("draw"):
                image = draw(radiograph, diagnosis)
            with clock("save"):
                save(image, self._out)
        self.facts |= {"accepted": diagnosis.verdict.accepted, "boxes": len(diagnosis.boxes)}
        stages = {**diagnosis.timing_ms, **clock.stages}
        return {name: stages[name] for name in (*STAGES, "total")}
