"""Boxes and labels as rectangles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_app.ui.camera import Rect
from edge_app.ui.marks import grown, outline, overlap, place_label

FRAME = (0.0, 0.0, 800.0, 600.0)
COORDINATE = st.integers(-2000, 2000)


def length(strokes: list[Rect]) -> float:
    return sum(max(c - a, d - b) for a, b, c, d in strokes)


def test_a_solid_box_is_four_strokes_of_the_same_thickness() -> None:
    strokes = outline((100, 100, 300, 200), FRAME, 4)
    assert strokes == [(98, 98, 302, 102), (98, 198, 302, 202), (98, 98, 102, 202), (298, 98, 302, 202)]


def test_a_dashed_box_has_gaps_as_long_as_its_dashes() -> None:
    strokes = outline((100, 100, 340, 220), FRAME, 4, dash=20)
    assert length(strokes) == pytest.approx(length(outline((100, 100, 340, 220), FRAME, 0)) / 2, rel=0.02)
    assert {min(c - a, d - b) for a, b, c, d in strokes} == {4}
    assert all(not overlap(one, other) for n, one in enumerate(strokes[:6]) for other in strokes[n + 1 : 6])


@given(COORDINATE, COORDINATE, st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([0, 14]))
def test_only_what_is_in_sight_is_drawn(x: int, y: int, width: int, height: int, dash: int) -> None:
    strokes = outline((x, y, x + width, y + height), FRAME, 4, dash)
    assert len(strokes) <= 2 * (800 + 600) / 28 + 8
    assert all(overlap(stroke, FRAME) for stroke in strokes)
    edges = [(x, y, x + width, y), (x, y + height, x + width, y + height)]
    seen = any(0 < a < 600 and b > 0 and c < 800 for c, a, b, _ in edges)
    assert strokes or not seen


def test_dashes_move_with_their_box() -> None:
    here, there = outline((100, 100, 340, 220), FRAME, 4, 20), outline((107, 103, 347, 223), FRAME, 4, 20)
    assert there == [(a + 7, b + 3, c + 7, d + 3) for a, b, c, d in here]


def test_a_rim_lies_around_its_stroke() -> None:
    assert grown([(10, 10, 20, 14)], 1) == [(9, 9, 21, 15)]


def test_a_label_stands_above_its_box_where_it_can() -> None:
    assert place_label((100, 100, 300, 200), (90, 20), FRAME, [], [], 3) == (100, 203, 190, 223)
    below = place_label((100, 400, 300, 595), (90, 20), FRAME, [], [], 3)
    assert below == (100, 377, 190, 397)


def test_a_label_of_a_box_out_of_sight_is_not_drawn() -> None:
    assert place_label((900, 100, 1000, 200), (90, 20), FRAME, [], [], 3) is None


@given(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 500), st.integers(10, 300), st.integers(10, 300))))
def test_labels_never_cover_each_other_nor_leave_the_frame(boxes: list[tuple[int, int, int, int]]) -> None:
    rects = [(x, y, x + w, y + h) for x, y, w, h in boxes]
    taken: list[Rect] = []
    for rect in rects:
        place = place_label(rect, (120, 26), FRAME, taken, [other for other in rects if other is not rect], 3)
        if place is not None:
            assert not any(overlap(place, other) for other in taken)
            assert place[0] >= 0
            assert place[2] <= 800
            assert place[1] >= 0
            assert place[3] <= 600
            taken.append(place)
    assert len(taken) >= min(len(rects), 4)


def test_a_label_rather_moves_than_hides_another_box() -> None:
    box, other = (100, 100, 300, 200), (90, 195, 400, 260)
    place = place_label(box, (90, 20), FRAME, [], [other], 3)
    assert place is not None
    assert not overlap(place, other)
    assert not overlap(place, box)
