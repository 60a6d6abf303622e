# SPDX-License-Identifier: Apache-2.0
"""Look for bytes that make a door fall over: coverage-guided, for as long as you like.

The doors are those of `test/hostile.py`, which `make test` knocks at for a second each. Needs
atheris (Apache-2.0; `pip install atheris` into .venv/kilted-3.11), which brings libFuzzer.

  python3 fuzz/fuzz.py                                # the doors
  python3 fuzz/fuzz.py calibration -max_total_time=60
  python3 fuzz/fuzz.py calibration crash-0123abc      # again, what it had found

What comes after the door's name is libFuzzer's; limits are set unless you give others: 2 GB of
memory, 10 seconds for one input. Inputs that it finds interesting are kept in .fuzz/<door>.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'test')]
_LIMITS = {'rss_limit_mb': 2048, 'timeout': 10, 'max_len': 1 << 16}
#: Bytes of a seed; a longer one takes seconds where each line is watched.
_SEED = 4096

# Not all that is imported: what is written in Python, and reads what comes from outside.
with atheris.instrument_imports(include=['trt_perception', 'yaml', 'rosbags']):
    from hostile import doors, running_model


def main() -> None:
    """Fuzz the door that is named."""
    known = doors()
    known['running model'] = known['ONNX file']._replace(knock=running_model)
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        print(__doc__)
        print('doors: ' + ', '.join(f"'{name}'" for name in known))
        sys.exit(0 if len(sys.argv) < 2 else 2)
    name, *given = sys.argv[1:]
    corpus = ROOT / '.fuzz' / name.replace(' ', '_').lower()
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(known[name].seeds):
        if len(seed) <= _SEED:
            (corpus / f'seed_{number}').write_bytes(seed)
    limits = [f'-{key}={value}' for key, value in _LIMITS.items()]
    again = any(not word.startswith('-') for word in given)
    places = [] if again else [str(corpus)]
    atheris.Setup([sys.argv[0], *limits, *given, *places], known[name].knock)
    atheris.Fuzz()


if __name__ == '__main__':
    main()
