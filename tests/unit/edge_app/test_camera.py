"""Zooming and moving, without a screen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_app.ui.camera import MAX_ZOOM, Camera

WIDE = (10.0, 20.0, 810.0, 620.0)
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("zoom"), st.floats(0.2, 5), st.tuples(st.floats(10, 810), st.floats(20, 620))),
        st.tuples(st.just("pan"), st.floats(-900, 900), st.floats(-900, 900)),
    ),
    max_size=12,
)


def camera(width: float = 2000, height: float = 1500) -> Camera:
    return Camera(WIDE, width, height)


def test_the_whole_image_is_fitted_into_the_middle() -> None:
    assert camera(2000, 1000).image == pytest.approx((10, 120, 810, 520))
    assert camera(500, 1000).image == pytest.approx((260, 20, 560, 620))


def test_the_top_of_the_image_is_at_the_top_of_the_screen() -> None:
    assert camera().to_screen(0, 0) == pytest.approx((10, 620))
    assert camera().to_screen(1, 1) == pytest.approx((810, 20))


@given(MOVES, st.floats(0, 1), st.floats(0, 1))
def test_screen_and_image_are_inverse_to_each_other(moves: list, x: float, y: float) -> None:
    seen = after(moves)
    assert seen.to_image(*seen.to_screen(x, y)) == pytest.approx((x, y), abs=1e-9)


@given(MOVES)
def test_the_image_never_leaves_its_frame(moves: list) -> None:
    seen = after(moves)
    assert 1 <= seen.zoom <= MAX_ZOOM
    left, bottom, right, top = seen.image
    for low, high, start, end in ((left, right, WIDE[0], WIDE[2]), (bottom, top, WIDE[1], WIDE[3])):
        if high - low >= end - start - 1e-6:
            assert low <= start + 1e-6
            assert high >= end - 1e-6
        else:
            assert (low + high) / 2 == pytest.approx((start + end) / 2)


def after(moves: list) -> Camera:
    seen = camera(2000, 1000)
    for kind, first, second in moves:
        if kind == "zoom":
            seen.zoom_by(first, second)
        else:
            seen.pan(first, second)
    return seen


def test_what_lies_under_the_finger_stays_there() -> None:
    seen = camera()
    held = seen.to_image(300, 400)
    seen.zoom_by(3, (300, 400))
    assert seen.to_screen(*held) == pytest.approx((300, 400))


def test_the_image_follows_the_finger() -> None:
    seen = camera()
    seen.zoom_by(4, (410, 320))
    held = seen.to_screen(0.5, 0.5)
    seen.pan(30, -20)
    assert seen.to_screen(0.5, 0.5) == pytest.approx((held[0] + 30, held[1] - 20))
    seen.fit()
    assert (seen.zoom, seen.centre) == (1.0, (0.5, 0.5))
