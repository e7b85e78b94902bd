"""Runs `echo-asr` with global attention in the encoder that becomes sharper with the logarithm of
the length, from N frames on, in training too:

    python scripts/measure/sharpened.py 30 pilot --config configs/pilot.yaml
    python scripts/measure/lengths.py --sharpen 30 --data espeak: runs/pilot/*/seed-*
"""

import sys

from lengths import sharpen

from echo.cli import main

sharpen(int(sys.argv.pop(1)))
main()
