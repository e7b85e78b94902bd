"""Takes the pictures of a page that the docs show.

The page is opened in headless Chromium, as wide as a desk's screen, and its beginning is kept:

    python scripts/draw/page.py runs/pilot/report.html --out docs/report.png
    python scripts/draw/page.py runs/pilot/report.html --out docs/pilot.png \
        --chart "WER during training" --width 840

Needs `playwright`, of the dev extra, and Debian's `chromium` or another.
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

COLOURS = 128  # of a picture: as good to look at, at a third of the bytes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path, help="report.html of a pilot, comparison or run")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--section", help="id of the section to show; by default the beginning")
    parser.add_argument("--chart", help="title of a chart to save, as its button PNG does")
    parser.add_argument("--width", type=int, default=1120, help="pixels (1120)")
    parser.add_argument("--height", type=int, default=900, help="pixels (900)")
    parser.add_argument("--dark", action="store_true", help="in dark colours")
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(
            viewport={"width": arguments.width, "height": arguments.height},
            color_scheme="dark" if arguments.dark else "light",
        )
        page.goto(arguments.page.resolve().as_uri())
        if arguments.section:
            page.evaluate(
                "id => document.getElementById(id).scrollIntoView({behavior: 'instant'})",
                arguments.section,
            )
        page.wait_for_timeout(500)  # pictures are decoded
        if arguments.chart:
            with page.expect_download() as saved:
                page.get_by_label(f"Save {arguments.chart} as PNG").click()
            taken = saved.value.path().read_bytes()
        else:
            taken = page.screenshot()
        shot = Image.open(io.BytesIO(taken)).convert("RGB")
        browser.close()
    shot.quantize(COLOURS, dither=Image.Dither.NONE).save(arguments.out, optimize=True)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
