# SPDX-License-Identifier: Apache-2.0
"""What comes from outside is refused by an error of ours, whatever it is, or it works."""

from __future__ import annotations

import pytest

pytest.importorskip('rosbags')
pytest.importorskip('sensor_msgs')

from hostile import doors
from hypothesis import given, settings
from hypothesis import strategies as st

DOORS = doors()
#: Examples that each door gets; those with files behind them take their time.
EXAMPLES = {'raw image': 300, 'compressed image': 300, 'bag message': 40, 'bag file': 60}


@st.composite
def altered(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Good bytes with something else at a few places, with a part missing, or twice."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(0, 8))
        what = draw(st.sampled_from(('replace', 'insert', 'cut', 'end', 'again')))
        if what == 'end':
            del data[at:]
        elif what == 'again':
            data[at:at] = data[at : at + 16 * length]
        else:
            new = b'' if what == 'cut' else draw(st.binary(min_size=1, max_size=8))
            data[at : at + (0 if what == 'insert' else length)] = new
    return bytes(data)


@pytest.mark.parametrize('name', DOORS)
def test_what_is_known_to_be_hostile(name: str) -> None:
    for seed in DOORS[name].seeds:
        DOORS[name].knock(seed)


@pytest.mark.parametrize('name', DOORS)
def test_what_was_altered(name: str) -> None:
    @settings(max_examples=EXAMPLES.get(name, 100))
    @given(altered(list(DOORS[name].seeds)))
    def knock(data: bytes) -> None:
        DOORS[name].knock(data)

    knock()
