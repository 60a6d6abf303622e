# SPDX-License-Identifier: Apache-2.0
"""Replays compared by the command as a user types it, and the pages that come of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip('rosbags')

from bags import FRONT, REAR, START, STEP, files, gray, packed, raw, two_cameras, write
from browser import answer
from models import constant_detector
from test_report import Page

from trt_perception.build.report import timeline
from trt_perception.cli.comparing import CHANGED
from trt_perception.cli.main import main
from trt_perception.replay.comparison import Counts

FRAMES = 24
TOPIC = FRONT
CLASSES = ('car', 'person', '<dog>')
BEFORE = ([8, 8, 40, 24], 0.9, 0), ([40, 20, 60, 40], 0.8, 1), ([2, 30, 12, 44], 0.5, 1)
#: The car moved, the larger person is a dog now, the smaller one has another score.
AFTER = ([14, 8, 46, 24], 0.9, 0), ([40, 20, 60, 40], 0.7, 2), ([2, 30, 12, 44], 0.3, 1)


def run(*args: str | Path, code: int = 0) -> None:
    assert main([str(argument) for argument in args]) == code


@pytest.fixture(scope='module')
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag, two models, and a replay with each."""
    folder = tmp_path_factory.mktemp('compare')
    messages = (
        (TOPIC, START + k * STEP, raw(gray(k), START + k * STEP - 5)) for k in range(FRAMES)
    )
    write(folder / 'bag', messages)
    for name, found in (('before', BEFORE), ('after', AFTER)):
        boxes, scores, ids = zip(*found, strict=True)
        # The image is 64 by 48, in the middle of what the network sees.
        lower = [[x1, y1 + 8, x2, y2 + 8] for x1, y1, x2, y2 in boxes]
        constant_detector(folder / f'{name}.onnx', lower, scores, ids, classes=CLASSES)
        run('replay', folder / 'bag', '--model', folder / f'{name}.onnx', '-o', folder / name,
            '--backend', 'onnxruntime')  # fmt: skip
    return folder


def test_what_changed(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run('compare', world / 'before', world / 'after', '--html', world / 'c.html', '--json', '-')
    told = json.loads(capsys.readouterr().out)
    n = FRAMES
    assert told['counts'] == {
        'first': 3 * n, 'second': 3 * n, 'matched': 2 * n, 'moved': n, 'rescored': n,
        'changed': 2 * n, 'lost': n, 'new': n,
    }  # fmt: skip
    assert told['by_class']['<dog>'] == Counts(0, n, 0, 0, 0, 0, 0, n)._asdict()
    assert told['frames'] == {'both': n, 'only_first': 0, 'only_second': 0, 'differing': n}
    assert told['renamed'] == [{'from': 'person', 'to': '<dog>', 'count': n}]
    assert told['passed'] and not told['identical'] and told['limits'] == []
    assert told['sides'][1]['model'].startswith('after.onnx, sha256 ')
    # A frame a second, and no two nearer.
    assert [w['stamp'] for w in told['worst_frames']] == [
        START + k * STEP - 5 for k in range(0, n, 10)
    ]


def test_the_table(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run('compare', world / 'before', world / 'after')
    text = capsys.readouterr().out
    assert 'person: 24 of 48 lost, all of them small.' in text
    assert 'person is called <dog>: 24.' in text
    run('compare', world / 'before', world / 'before', '--max-lost', '0%', '--max-rescored', '0%')
    assert 'passed' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('limit', 'code'),
    [
        (('--max-lost', '34%'), 0), (('--max-lost', '33%'), CHANGED),
        (('--max-new', '33%', '--max-lost', '50%'), CHANGED), (('--max-moved', '50%'), 0),
        (('--max-rescored', '49.9%'), CHANGED), (('--max-slower', '100000%'), 0),
    ],
)  # fmt: skip
def test_limits(world: Path, limit: tuple[str, ...], code: int) -> None:
    run('compare', world / 'before', world / 'after', *limit, code=code)


def labels(path: Path, boxes: list[tuple[int, int, list[float]]]) -> Path:
    path.write_text(json.dumps({
        'images': [{'id': k, 'file_name': f'frame_{k:06d}.jpg'} for k in range(0, FRAMES, 2)],
        'categories': [{'id': 1, 'name': 'car'}, {'id': 2, 'name': 'person'}],
        'annotations': [
            {'image_id': k, 'category_id': c, 'bbox': box} for k, c, box in boxes
        ],
    }))  # fmt: skip
    return path


def test_labels(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip('pycocotools')
    half = range(0, FRAMES, 2)
    car, person = [8, 8, 32, 16], [44, 4, 10, 10]
    path = labels(
        world / 'labels.json', [(k, c, b) for k in half for c, b in ((1, car), (2, person))]
    )
    html = world / 'labels.html'
    run('compare', path, world / 'before', '--html', html, '--json', '-', '--max-lost', '40%',
        code=CHANGED)  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert told['counts'] == Counts(24, 36, 12, 0, 0, 0, 12, 24)._asdict()
    # At every overlap a car, at none a person.
    assert told['accuracy'] == {'map': pytest.approx(0.5), 'map50': pytest.approx(0.5)}
    text = ' '.join(Page(html.read_text()).texts)
    assert '50.0 % of what is labelled was found' in text
    assert 'Precision and recall' in text and 'AP50 100.0, 12 objects' in text
    run('compare', path, world / 'before', '--max-slower', '5%', code=2)
    assert '--max-slower is for two replays' in capsys.readouterr().err


def test_a_baseline(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, out = tmp_path / 'base', tmp_path / 'out'

    def replay(model: str, *more: str | Path, code: int = 0) -> str:
        run('replay', world / 'bag', '--model', world / f'{model}.onnx', '-o', out, *more,
            '--backend', 'onnxruntime', code=code)  # fmt: skip
        both = capsys.readouterr()
        return both.err if code == 2 else both.out

    assert 'with --update-baseline this replay becomes' in replay(
        'before', '--baseline', base, code=2
    )
    assert not out.exists()
    replay('before', '--baseline', base, '--update-baseline')
    assert sorted(f.name for f in base.iterdir()) == [
        'detections.mcap',
        'frames.npy',
        'replay.json',
    ]
    assert not (out / 'comparison.html').exists()
    text = replay('after', '--baseline', base, '--max-lost', '10%', code=CHANGED)
    assert 'FAILED' in text and 'comparison.html' in text
    assert json.loads((out / 'comparison.json').read_text())['counts']['lost'] == FRAMES
    kept = (base / 'detections.mcap').read_bytes()
    assert kept == (world / 'before' / 'detections.mcap').read_bytes()
    replay('after', '--baseline', base, '--max-lost', '10%', '--update-baseline')
    assert (base / 'detections.mcap').read_bytes() != kept
    replay('after', '--baseline', base, '--max-lost', '0%')
    assert json.loads((out / 'comparison.json').read_text())['identical']
    assert [f.name for f in tmp_path.iterdir() if f.name.startswith('.')] == []
    (base / '.gitattributes').touch()
    assert "holds '.gitattributes'" in replay(
        'after', '--baseline', base, '--update-baseline', code=2
    )


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (('compare', 'before', 'nowhere'), "'nowhere' is no replay"),
        (('compare', 'nowhere', 'after'), "'nowhere' is no replay"),
        (('compare', 'before', 'labels2.json'), 'labels come first'),
        (('compare', 'after', 'other'), 'have no frame in common'),
        (('compare', 'before/replay.json', 'after'), 'is not a COCO detection data set'),
        (('compare', 'before', 'after', '--html', 'nowhere/c.html'), 'nowhere'),
        (('replay', 'bag', '--model', 'after.onnx', '--max-lost', '1%'), 'needs a --baseline'),
        (('replay', 'bag', '--model', 'after.onnx', '--update-baseline'), 'needs a --baseline'),
        (('replay', 'bag', '--model', 'after.onnx', '--baseline', 'after', '-o', 'after'),
         'is where the results go'),
        (('replay', 'bag', '--model', 'after.onnx', '--baseline', 'labels2.json',
          '--update-baseline'), 'would overwrite them'),
        (('replay', 'bag', '--model', 'after.onnx', '--baseline', 'labels2.json', '--max-slower',
          '5%'), '--max-slower is for two replays'),
    ],
)  # fmt: skip
def test_mistakes(
    world: Path, args: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(world)
    if 'other' in args and not Path('other').exists():
        write(Path('bag2'), [(TOPIC, START + 7, packed(gray(0), 7))])
        run('replay', 'bag2', '--model', 'after.onnx', '-o', 'other', '--backend', 'onnxruntime')
    labels(Path('labels2.json'), [])
    run(*args, code=2)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize('name', ['bag', 'model', 'selection', 'cameras', 'damage', 'frames'])
def test_a_summary_that_was_edited(
    world: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(world / 'before', tmp_path / 'out'))
    file = out / 'replay.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: {'/camera': 1}}))
    run('compare', out, world / 'after', code=2)
    assert 'replay the bag anew' in capsys.readouterr().err


def test_other_parameters_are_told(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = world / 'one.yaml'
    given.write_text(f'/**: {{ros__parameters: {{model: {world}/before.onnx, classes: [car]}}}}')
    run('replay', world / 'bag', '--params', given, '-o', world / 'one', '--limit', '2',
        '--backend', 'onnxruntime')  # fmt: skip
    run('compare', world / 'before', world / 'one', '--json', '-')
    notes = json.loads(capsys.readouterr().out.partition('\n{')[2].join(['{', '']))['notes']
    assert any("classes ['*'] and ['car']" in note for note in notes)


def test_a_percentage_has_its_sign(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(['compare', 'a', 'b', '--max-lost', '0.01'])
    assert "'0.01' is not a percentage, as 1% or 0.5% is" in capsys.readouterr().err


# Pages


@pytest.fixture(scope='module')
def pages(world: Path) -> dict[str, Path]:
    run('compare', world / 'before', world / 'after', '--html', world / 'compared.html',
        '--max-lost', '10%', code=CHANGED)  # fmt: skip
    return {'replay': world / 'before' / 'report.html', 'compare': world / 'compared.html'}


@pytest.mark.parametrize('which', ['replay', 'compare'])
def test_a_page_needs_nothing_else(pages: dict[str, Path], which: str) -> None:
    html = pages[which].read_text(encoding='utf-8')
    shown = Page(html)
    assert shown.open == []
    assert all(link.startswith('#') for link in shown.links)
    for word in ('http:', 'https:', '@import', 'url(', '<link', 'src='):
        assert word not in html
    assert html.count('data:image/jpeg;base64,') >= 3  # each picture once
    assert len(html) < 1_000_000


def test_the_summary_comes_first(pages: dict[str, Path]) -> None:
    text = ' '.join(' '.join(Page(pages['compare'].read_text()).texts).split())
    assert text.startswith('Failed 66.7 % of the detections are still there after, compared with')
    assert '✗ lost, of the detections that were there 33.3 % 10 %' in text
    text = ' '.join(' '.join(Page(pages['replay'].read_text()).texts).split())
    assert text.startswith('Every image was used 72 detections in 24 images before.onnx on bag')


def test_several_cameras(world: Path, tmp_path: Path) -> None:
    write(tmp_path / 'bag', two_cameras(count=8))
    out = tmp_path / 'out'
    run('replay', tmp_path / 'bag', '--model', world / 'before.onnx', '-o', out,
        '--backend', 'onnxruntime')  # fmt: skip
    shown = Page((out / 'report.html').read_text())
    assert shown.open == []
    text = ' '.join(' '.join(shown.texts).split())
    assert text.count('until the next image comes') == 2
    assert f'{FRONT} 8 24' in text and f'{REAR} 8 24' in text
    run('compare', out, out, '--html', tmp_path / 'c.html', '--max-lost', '0%')
    text = ' '.join(' '.join(Page((tmp_path / 'c.html').read_text()).texts).split())
    assert text.startswith('Passed The same detections, bit for bit')


def test_without_the_bag_there_are_no_pictures(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ('before', 'after'):
        shutil.copytree(world / name, tmp_path / name)
        told = json.loads((tmp_path / name / 'replay.json').read_text())
        told['bag']['path'] = '/nowhere/bag'
        (tmp_path / name / 'replay.json').write_text(json.dumps(told))
    run('compare', tmp_path / 'before', tmp_path / 'after', '--html', tmp_path / 'c.html')
    html = (tmp_path / 'c.html').read_text()
    assert 'No pictures: the bag &#x27;/nowhere/bag&#x27; is gone.' in html
    assert 'data:image' not in html and '<rect class="blank"' in html
    del told['machine']
    (tmp_path / 'after' / 'replay.json').write_text(json.dumps(told))
    run('compare', tmp_path / 'before', tmp_path / 'after', code=2)
    assert 'replay.json has no machine, or something else' in capsys.readouterr().err


def test_a_bag_that_was_cut_off_has_pictures_too(world: Path, tmp_path: Path) -> None:
    bag = tmp_path / 'bag'
    shutil.copytree(world / 'bag', bag)
    (file,) = files(bag)
    file.write_bytes(file.read_bytes()[:-100])  # and so without its index
    run('replay', bag, '--model', world / 'before.onnx', '-o', tmp_path / 'out',
        '--backend', 'onnxruntime')  # fmt: skip
    html = (tmp_path / 'out' / 'report.html').read_text()
    assert 'No pictures' not in html and html.count('data:image/jpeg') >= 3
    assert f'{3 * FRAMES} detections in {FRAMES} images' in html


def test_what_a_browser_makes_of_it(pages: dict[str, Path]) -> None:
    seen = answer(pages['compare'], """
        const $ = (what) => [...document.querySelectorAll(what)];
        const shown = (what) => $(what).filter((e) => e.checkVisibility()).length;
        const paper = () => getComputedStyle(document.body).backgroundColor;
        // WCAG 2.2: how much lighter one colour is than the other.
        const light = (text) => {
          const [r, g, b] = text.match(/\\d+/g).map((v) => v / 255)
            .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
          return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
        };
        const contrast = () => Math.min(...['.card span', '.card b', '.good, .bad', '.told li',
          '.filter [aria-pressed=false] span', 'th', 'td span.new', '.lane-name span',
          '.plot-x span', 'figcaption'].flatMap($).map((e) => {
            let under = e;
            while (getComputedStyle(under).backgroundColor === 'rgba(0, 0, 0, 0)') {
              under = under.parentElement;
            }
            const two = [light(getComputedStyle(e).color),
                         light(getComputedStyle(under).backgroundColor)];
            return Math.max(...two) / Math.min(...two);
          }));
        const key = async (name) => {
          dispatchEvent(new KeyboardEvent('keydown', {key: name})); await step();
        };
        const told = {errors: [], wide: document.documentElement.scrollWidth - innerWidth};
        addEventListener('error', (e) => told.errors.push(e.message));
        told.system = paper();
        document.querySelector('#theme-light').click(); await step();
        told.light = paper(); told.contrast = [contrast()];
        document.querySelector('#theme-dark').click(); await step();
        told.dark = paper(); told.contrast.push(contrast());
        told.images = $('image').length;
        told.pictures = shown('.tile .shot');
        told.all = [shown('.lane'), shown('table tr[data-class]'), shown('.tile')];
        const chip = (name) => $('.filter button').find((b) => b.value === name);
        chip('car').click(); await step();
        told.car = [shown('.lane'), shown('table tr[data-class]'), shown('.tile')];
        told.pressed = $('.filter [aria-pressed=true]').map((b) => b.value);
        chip('<dog>').click(); await step();
        told.two = [shown('.lane'), shown('table tr[data-class]'), shown('.tile')];
        chip('').click(); await step();
        told.again = [shown('.lane'), shown('table tr[data-class]'), shown('.tile')];
        told.closed = shown('.large');
        document.querySelector('.tile').click(); await step();
        told.open = [location.hash, shown('.large'), shown('.large .shot')];
        told.focus = document.activeElement.className;
        await key('ArrowRight'); told.right = location.hash;
        await key('ArrowLeft'); await key('ArrowLeft'); told.left = location.hash;
        const touch = async (kind, x) => {
          const target = document.querySelector('.large:target');
          const one = new Touch({identifier: 1, target, clientX: x, clientY: 300});
          target.dispatchEvent(new TouchEvent(kind, {changedTouches: [one],
            touches: kind === 'touchstart' ? [one] : [], bubbles: true}));
          await step();
        };
        await touch('touchstart', 300); await touch('touchend', 100); told.swiped = location.hash;
        await touch('touchstart', 100); await touch('touchend', 300);
        await key('Escape');
        told.escaped = [shown('.large'), document.activeElement.hash];
        told.unlabelled = $('svg[role=img]').filter((e) => !e.getAttribute('aria-label')).length;
        told.fetched = performance.getEntriesByType('resource')
          .filter((e) => !e.name.startsWith('data:')).length;
        return told;
    """, width=390, dark=True)  # fmt: skip
    assert seen['errors'] == [] and seen['fetched'] == seen['unlabelled'] == 0
    assert seen['wide'] <= 0  # a phone need not scroll sideways
    assert seen['system'] == seen['dark'] != seen['light']
    assert min(seen['contrast']) >= 4.5
    assert seen['images'] == seen['pictures'] == 3
    # Lanes of all and of three classes, and of those two that were lost or are new.
    assert seen['all'] == seen['again'] == [4 + 3, 3, 3]
    assert seen['car'] == [1, 1, 3] and seen['pressed'] == ['car']
    assert seen['two'] == [3, 2, 3]
    assert seen['closed'] == 0 and seen['open'] == ['#frame-0', 1, 2]
    assert seen['focus'] == 'close'
    assert (seen['right'], seen['left']) == ('#frame-1', '#frame-2')
    assert seen['swiped'] == '#frame-0'
    assert seen['escaped'] == [0, '#frame-2']


def test_the_page_of_an_evaluation(tmp_path: Path) -> None:
    pytest.importorskip('pycocotools')
    model = constant_detector(
        tmp_path / 'm.onnx', [[0, 0, 20, 20], [30, 30, 60, 60]], [0.9, 0.1], [1, 0],
        classes=('car', 'person', 'dog'),
    )  # fmt: skip
    (tmp_path / 'labels.json').write_text(json.dumps({
        'images': [{'id': k, 'file_name': f'{k}.png'} for k in range(2)],
        'categories': [{'id': 1, 'name': 'car'}, {'id': 2, 'name': 'person'}],
        'annotations': [
            {'image_id': k, 'category_id': c, 'bbox': box}
            for k in range(2)
            for c, box in ((1, [30, 30, 30, 30]), (2, [0, 0, 20, 20]))
        ],
    }))  # fmt: skip
    for k in range(2):
        cv2.imwrite(str(tmp_path / f'{k}.png'), np.zeros((64, 64, 3), np.uint8))
    html = tmp_path / 'page.html'
    run('evaluate', '--model', model, '--coco', tmp_path / 'labels.json', '--images', tmp_path,
        '--html', html, '--json', tmp_path / 'e.json')  # fmt: skip
    shown = Page(html.read_text())
    text = ' '.join(' '.join(shown.texts).split())
    # The car's score is too low for a node, but counts for mAP.
    assert text.startswith('Measured 50.0 % of what is labelled was found m.onnx: 2 detections of')
    assert '100.0 mAP50-95' in text and 'car: 2 of 2 missed, all of them small.' in text
    assert '1: 0.png 1 missed' in text and 'only in' not in text
    assert 'curves' not in json.loads((tmp_path / 'e.json').read_text())['accuracy']
    # A dot where detections count, on the curve of the class that reaches it.
    assert html.read_text().count('class="dot"') == 1


# Plots over time


def test_a_long_recording_is_drawn_as_small_as_a_short_one() -> None:
    sizes = []
    for number in (300, 18_000):
        time = np.arange(number) * 33_000_000
        clock = timeline.Clock.of(time)
        values = 10 + np.sin(np.arange(number) / 50)
        values[number // 2] = 400  # one slow frame is neither lost nor does it press the rest flat
        envelope = timeline.Envelope.of(clock.bin(time), values, clock.bins)
        assert np.nanmax(envelope.most) == 400
        assert envelope.most.max() >= envelope.p95.max() >= envelope.median.max()
        drawn = timeline.milliseconds(clock, [timeline.Line('', '', envelope)], 'ms', 12.0)
        assert drawn.count('class="over ') == 1 and '>12</span>' in drawn
        assert Page(drawn).open == []
        sizes.append(len(drawn))
    assert sizes[1] < 3 * sizes[0] and sizes[1] < 60_000


@pytest.mark.parametrize('times', [[], [5], [5, 5], [0, 10**12]])
def test_odd_times(times: list[int]) -> None:
    time = np.array(times, np.int64)
    clock = timeline.Clock.of(time)
    bins = clock.bin(time)
    assert ((bins >= 0) & (bins < clock.bins)).all()
    line = timeline.Line('', '', timeline.Envelope.of(bins, np.zeros(len(time)), clock.bins))
    shown: list[Any] = [timeline.lane(clock, '<a>', [line], '0')]
    shown.append(timeline.mirrored(clock, '', bins, bins[:0], '0'))
    assert Page(timeline.lanes(clock, shown)).open == []


def test_gaps_are_gaps() -> None:
    values = np.array([1, 2, np.nan, np.nan, 4, np.nan])
    drawn = timeline._line(values, 4.0, 'line')
    assert drawn.count('M') == 2
    assert 'M666.7,0.0' in drawn
