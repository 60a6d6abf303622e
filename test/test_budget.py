# SPDX-License-Identifier: Apache-2.0
"""When a camera's times are an alarm, of what level, and in which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_timing import MS, NOW, SECOND

from trt_perception.health.budget import (
    Alarm,
    Budget,
    BudgetError,
    BudgetJudge,
)
from trt_perception.health.level import Judgement, Level
from trt_perception.health.timing import Moment, Timing

OK, WARN, ERROR = Level.OK, Level.WARN, Level.ERROR
VALUES = {
    'latency_budget_ms': 20.0,
    'rate_min_hz': 30.0,
    'max_rate': 0.0,
    'stage_budgets_ms': [''],
    'budget_error_factor': 5.0,
}


def budget(**values: object) -> Budget:
    return Budget.of({**VALUES, **values})


class Camera:
    """Images on a clock of the test's own, judged once a second."""

    def __init__(self, **values: object) -> None:
        self.budget = budget(**values)
        self.timing = Timing()
        self._judge = BudgetJudge()
        self._at = 0

    def second(
        self,
        fps: float = 30.0,
        *,
        age: float = 1.0,
        infer: float = 8.0,
        published: bool = True,
        late: int = 0,
        speed: float = 1.0,
        old: bool = False,
        share: float = 1.0,
    ) -> Judgement:
        """A second, in which so many of the images take 10 times as long; milliseconds."""
        for k in range(round(fps * speed)):
            at = self._at + round(k * SECOND / (fps * speed))
            stamp = NOW + round(at * speed)
            came = NOW if old else round(age * MS)
            self.timing.received(Moment(at, stamp, came))
            took = round(infer * (10 if k < late else 1) * MS)
            if published and (k + 1) * share % 1 < share:
                stages = {'queue': MS, 'infer': took, 'total': took + MS}
                self.timing.published(Moment(at + took + MS, stamp, came + took + MS), stages)
        return self.judge(news=fps > 0, share=share)

    def judge(self, *, news: bool, share: float = 1.0) -> Judgement:
        self._at += SECOND
        self.timing.turn()
        return self._judge.judge(self._at / 1e9, self.timing, self.budget, news=news, share=share)

    def hold(self) -> None:
        self.timing.clear()
        self._judge.hold()


def test_in_time_and_often_enough():
    camera = Camera()
    assert [camera.second(29.97) for _ in range(5)] == [(OK, '')] * 5


def test_the_message_names_budget_stage_excess_and_time():
    camera = Camera()
    assert camera.second(infer=40.0).level == OK  # once is no alarm
    assert camera.second(infer=40.0).level == WARN
    camera.second(infer=40.0)
    told = camera.second(infer=40.0)
    assert told == (
        WARN,
        'stamp to publish p95 42.0 ms is 22.0 over latency_budget_ms 20 for 3 s; most of it is'
        ' infer, p95 40.0',
    )


def test_images_that_are_old_when_they_come():
    camera = Camera()
    told = [camera.second(age=50.0) for _ in range(2)][-1]
    assert told.level == WARN
    assert told.message.endswith('most of it is age, p95 50.0')


def test_an_error_is_many_times_over():
    camera = Camera()
    assert [camera.second(10.0, infer=120.0).level for _ in range(3)] == [OK, ERROR, ERROR]
    camera = Camera(budget_error_factor=8.0)
    assert [camera.second(10.0, infer=120.0).level for _ in range(3)] == [OK, WARN, WARN]


def test_one_late_image_is_none():
    camera = Camera()
    assert [camera.second(late=1).level for _ in range(6)] == [OK] * 6


def test_it_is_over_when_it_was_well_for_a_while():
    camera = Camera(rate_min_hz=0.0)
    assert [camera.second(late=15).level for _ in range(2)] == [OK, WARN]
    levels = [camera.second().level for _ in range(15)]
    # The window forgets the last of it after 10 s, but for what a twentieth may be; three agree.
    assert levels == [WARN] * levels.count(WARN) + [OK] * levels.count(OK)
    assert 5 <= levels.count(WARN) <= 12


def test_a_latency_at_the_budget_does_not_flicker():
    camera = Camera(rate_min_hz=0.0)
    for _ in range(2):
        camera.second(infer=20.0)
    assert {camera.second(infer=ms).level for ms in [17.2] * 20} == {WARN}
    assert camera.second(infer=17.2).message.startswith(
        'stamp to publish p95 19.2 ms is back within latency_budget_ms 20 for'
    )
    assert [camera.second(infer=15.0) for _ in range(14)][-1] == (OK, '')


def test_a_stage_has_a_budget_of_its_own():
    camera = Camera(stage_budgets_ms=['infer=5', 'queue=50'], latency_budget_ms=0.0)
    told = [camera.second() for _ in range(2)][-1]
    assert told == (WARN, 'infer p95 8.0 ms is 3.0 over stage_budgets_ms infer 5 for 1 s')
    camera.budget = budget()
    assert camera.second() == (OK, '')  # at once: nobody expects it any more


def test_several_budgets_the_worst_first():
    camera = Camera(stage_budgets_ms=['infer=1'], latency_budget_ms=5.0)
    told = [camera.second() for _ in range(2)][-1]
    assert told.level == ERROR
    assert told.message.startswith('infer p95 8.0 ms is 7.0 over stage_budgets_ms infer 1')
    assert '; stamp to publish p95 10.0 ms is 5.0 over' in told.message


def test_a_camera_that_is_slow_is_blamed_itself():
    camera = Camera()
    told = [camera.second(10.0) for _ in range(2)][-1]
    assert told == (
        WARN, '10.0 images/s are 20.0 below rate_min_hz 30 for 1 s: the camera sends 10.0'
    )  # fmt: skip
    assert [camera.second(5.0) for _ in range(20)][-1].level == ERROR


def test_a_detector_that_stops_is_blamed():
    camera = Camera()
    for _ in range(3):
        assert camera.second().level == OK
    told = [camera.second(published=False) for _ in range(4)][-1]
    assert told.level == ERROR
    assert told.message.endswith('the camera sends 30.0, and most of the time goes to infer')


def test_the_policy_is_blamed_for_what_it_leaves_out():
    camera = Camera()
    assert camera.second().level == OK
    told = [camera.second(share=0.5) for _ in range(15)][-1]
    assert told.level == WARN
    assert told.message.endswith('the camera sends 30.0, of which the policy lets 50% through')


def test_who_is_slow_as_well_is_not_hidden():
    camera = Camera()
    told = [camera.second(20.0, published=k % 2 == 0) for k in range(20)][-1]
    assert told.message.endswith('the camera sends 20.0, and most of the time goes to infer')


def test_no_more_is_expected_than_max_rate():
    camera = Camera(max_rate=15.0)
    assert [camera.second(15.0).level for _ in range(5)] == [OK] * 5
    told = [camera.second(12.0) for _ in range(15)][-1]
    assert told.level == WARN
    assert 'below max_rate 15' in told.message


def test_slow_cameras():
    assert budget().silence_s == budget(rate_min_hz=0.0).silence_s == 5
    assert budget(rate_min_hz=0.1).silence_s == 50
    camera = Camera(rate_min_hz=1.0)
    assert [camera.second(1.0).level for _ in range(5)] == [OK] * 5


@pytest.mark.parametrize('speed', [0.3, 1.0, 2.0])
def test_a_recording_at_any_speed_is_not_blamed(speed):
    camera = Camera()
    assert [camera.second(speed=speed, old=True).level for _ in range(5)] == [OK] * 5
    told = [camera.second(speed=speed, old=True, infer=40.0) for _ in range(2)][-1]
    assert told.level == WARN
    assert told.message.startswith('total p95 41.0 ms is 21.0 over latency_budget_ms 20')


def test_silence_changes_nothing():
    camera = Camera()
    for _ in range(2):
        camera.second(infer=40.0)
    assert [camera.second(0).level for _ in range(5)] == [WARN] * 5


def test_a_clock_that_jumps_raises_and_ends_nothing():
    camera = Camera()
    camera.second(infer=40.0)
    camera.hold()
    assert camera.second(infer=40.0).level == OK
    assert camera.second(infer=40.0).level == WARN
    camera.hold()
    assert camera.second(infer=40.0).level == WARN


def test_nothing_is_expected():
    camera = Camera(latency_budget_ms=0.0, rate_min_hz=0.0)
    assert [camera.second(2.0, infer=400.0) for _ in range(5)] == [(OK, '')] * 5


@given(st.lists(st.tuples(st.sampled_from([OK, WARN, ERROR]), st.integers(0, 2)), max_size=60))
def test_an_alarm_never_moves_on_a_single_judgement(judgements):
    alarm, before, levels = Alarm(), [], []
    for now, (enters, more) in enumerate(judgements):
        stays = Level(min(ERROR, enters + more))
        was = alarm.level
        alarm.judge(now, enters, stays)
        before.append((enters, stays))
        levels.append(alarm.level)
        if alarm.level > was:
            assert all(entered >= alarm.level for entered, _ in before[-2:])
        elif alarm.level < was:
            assert all(stayed <= alarm.level for _, stayed in before[-3:])
        if alarm.level:
            assert 0 <= alarm.since <= now
    assert set(levels) <= {OK, WARN, ERROR}


def test_two_judgements_always_raise_and_three_lower():
    alarm = Alarm()
    for now, (enters, stays, level) in enumerate([
        (WARN, WARN, OK), (ERROR, ERROR, WARN), (ERROR, ERROR, WARN), (ERROR, ERROR, ERROR),
        (OK, OK, ERROR), (OK, WARN, ERROR), (OK, OK, WARN), (OK, OK, WARN), (OK, OK, WARN),
        (OK, OK, OK),
    ]):  # fmt: skip
        alarm.judge(now, enters, stays)
        assert alarm.level == level, now
    assert alarm.since == 0


@pytest.mark.parametrize('text', ['infer', 'infer=', 'infer=x', 'infer=0', 'infer=nan', 'gpu=3'])
def test_budgets_that_are_none(text):
    with pytest.raises(BudgetError, match='the stages are age, queue, preprocess, infer') as error:
        budget(stage_budgets_ms=[text])
    assert repr(text) in str(error.value)


def test_a_stage_that_is_there_twice():
    with pytest.raises(BudgetError, match='infer is there twice'):
        budget(stage_budgets_ms=['infer=8', 'decode=2', 'infer=9'])
