"""The charts' colours stay apart for colour-blind eyes and readable on both pages."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from routing_pipeline.report.charts.palette import DARK, GRID, INK, MAIN, MARK, MEANING, PAPER, QUIET, STRONGEST, of_the_page, variables

Floats = NDArray[np.float64]

# Machado, Oliveira & Fernandes 2009, IEEE TVCG 15:1291, severity 1.0; over linear RGB.
SEEN_BY = {
    "everyone": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
WHITE = TO_XYZ @ np.ones(3)
PAGES = {"light": {colour: colour for colour in MEANING}, "dark": DARK}
DATA = (QUIET, MAIN, MARK)
"""Colours that tell one series from another."""


def linear(colour: str) -> Floats:
    channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: Floats) -> Floats:
    """CIE 1976 L*a*b* of linear RGB, D65."""
    ratio = TO_XYZ @ np.clip(rgb, 0, 1) / WHITE
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: Floats, other: Floats) -> float:
    """WCAG 2 contrast ratio of two linear colours."""
    low, high = sorted(float(TO_XYZ[1] @ each) for each in (one, other))
    return (high + 0.05) / (low + 0.05)


def mixed(over: str, under: str, opacity: float) -> Floats:
    """What a half transparent colour looks like; browsers mix the encoded channels."""
    channels = [
        round(opacity * int(over[place : place + 2], 16) + (1 - opacity) * int(under[place : place + 2], 16)) for place in (1, 3, 5)
    ]
    return linear("#" + "".join(f"{channel:02x}" for channel in channels))


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("eyes", SEEN_BY)
def test_no_two_series_look_alike_to_anybody(page: str, eyes: str) -> None:
    shades = PAGES[page]
    seen = {colour: lab(SEEN_BY[eyes] @ linear(shades[colour])) for colour in DATA}
    for one, other in combinations(DATA, 2):
        distance = float(np.linalg.norm(seen[one] - seen[other]))
        assert distance >= 25, (MEANING[one], MEANING[other], round(distance, 1))


def test_the_test_would_notice_red_beside_green() -> None:
    seen = [lab(SEEN_BY["deuteranopia"] @ linear(colour)) for colour in ("#b3402e", "#5f7a1f")]
    assert np.linalg.norm(seen[0] - seen[1]) < 25


@pytest.mark.parametrize("page", PAGES)
def test_what_is_proposed_is_darker_or_lighter_than_what_is_marked_on_grey_paper_too(page: str) -> None:
    shades = PAGES[page]
    light = {colour: float(lab(linear(shades[colour]))[0]) for colour in DATA}
    assert abs(light[MAIN] - light[MARK]) >= 15
    assert page == "dark" or abs(light[MAIN] - light[QUIET]) >= 15


@pytest.mark.parametrize("page", PAGES)
def test_marks_stand_out_from_the_page_and_words_can_be_read_on_it_and_on_every_cell(page: str) -> None:
    shades = PAGES[page]
    paper = linear(shades[PAPER])
    assert all(contrast(linear(shades[colour]), paper) >= 3 for colour in DATA)
    assert contrast(linear(shades[INK]), paper) >= 7
    assert contrast(linear(shades[INK]), mixed(shades[MAIN], shades[PAPER], STRONGEST)) >= 4.5
    assert contrast(linear(shades[GRID]), paper) < 3


def test_a_page_takes_over_every_colour() -> None:
    style = variables()
    picture = of_the_page("".join(f'<path fill="{colour}"/>' for colour in MEANING))
    for colour, meaning in MEANING.items():
        assert f"--chart-{meaning}: {colour}" in style
        assert f"--chart-{meaning}: {DARK[colour]}" in style
        assert f'fill="var(--chart-{meaning}, {colour})"' in picture
    assert "@media screen and (prefers-color-scheme: dark)" in style
