"""How often 95 % intervals over a few seeds hold the truth, drawn as Echo draws them and as a plain
bootstrap does:

python scripts/measure/coverage.py

The differences of two models by seed are normal here, and nothing but seeds makes them vary.
"""

import numpy as np

from echo.evaluate.statistics import drawn_times, interval, resampled_deviations

TRIALS = 2000
RESAMPLES = 1000


def main() -> None:
    rng = np.random.default_rng(0)
    print("| seeds | plain bootstrap | spread |\n| ---: | ---: | ---: |")
    for seeds in (2, 3, 4, 5, 7, 10):
        held = np.zeros(2)
        for differences in rng.standard_normal((TRIALS, seeds)):
            plain = drawn_times(rng, RESAMPLES, seeds) @ differences / seeds
            spread = differences.mean() + resampled_deviations(differences[None], RESAMPLES)[0]
            for way, drawn in enumerate((plain, spread)):
                low, high = interval(drawn)
                held[way] += low <= 0 <= high
        print(f"| {seeds} | {' | '.join(f'{100 * share:.1f} %' for share in held / TRIALS)} |")


if __name__ == "__main__":
    main()
