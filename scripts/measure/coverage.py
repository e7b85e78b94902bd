"""How often 95 % intervals over a few seeds hold the truth, drawn as Echo draws them and as a plain
bootstrap does:

python scripts/measure/coverage.py

The differences of two models by seed are normal here, and nothing but seeds makes them vary.
"""

import numpy as np

from echo.evaluate.statistics import drawn_times, interval, spread

TRIALS = 2000
RESAMPLES = 1000


def main() -> None:
    rng = np.random.default_rng(0)
    print("| seeds | plain bootstrap | spread |\n| ---: | ---: | ---: |")
    for seeds in (2, 3, 4, 5, 7, 10):
        held = np.zeros(2)
        for differences in rng.standard_normal((TRIALS, seeds)):
            times = drawn_times(rng, RESAMPLES, seeds)
            for way, drawn in enumerate((times, spread(times, rng))):
                low, high = interval(drawn @ differences / seeds)
                held[way] += low <= 0 <= high
        plain, wide = (f"{100 * share:.1f} %" for share in held / TRIALS)
        print(f"| {seeds} | {plain} | {wide} |", flush=True)


if __name__ == "__main__":
    main()
