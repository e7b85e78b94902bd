"""Commands on data sets. Heavy imports stay inside."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from echo.cli.options import (
    DATA_HELP,
    AllowOutside,
    AudioColumn,
    Checkpoint,
    Data,
    MaxSeconds,
    Overrides,
    SpeakerColumn,
    TextColumn,
    check_models,
    read_options,
)
from echo.support.errors import ConfigError
from echo.support.text import brief, read_names, visible


def check(
    data: Data,
    audio_column: AudioColumn = None,
    text_column: TextColumn = None,
    speaker_column: SpeakerColumn = None,
    max_seconds: MaxSeconds = 30.0,
    allow_outside: AllowOutside = False,
) -> None:
    """Report all problems of a data set at once."""
    from echo.data.named import check_named

    check_named(data)

    from echo.data.check import check_source, format_report

    options = read_options(audio_column, text_column, speaker_column, False, allow_outside)
    report = check_source(data, options, max_seconds)
    print(format_report(report))
    if report.problems:
        raise typer.Exit(2)


def explore(
    data: Data,
    out: Annotated[Path, typer.Option(help="HTML file to write; an existing one is replaced.")],
    audio_column: AudioColumn = None,
    text_column: TextColumn = None,
    speaker_column: SpeakerColumn = None,
    max_seconds: MaxSeconds = 30.0,
    allow_outside: AllowOutside = False,
) -> None:
    """Write a page that shows a data set: hours, speakers, texts, problems and recordings.

    The folder of a filter shows what it kept and rejected. Texts can be corrected in the page. Of
    more than 20,000 rows, a sample is shown.
    """
    from echo.data.named import check_named
    from echo.support.files import writable_folder

    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out is {brief(str(out))!r}, but must name a file that ends in .html")
    writable_folder(out.parent)
    check_named(data)

    from echo.report.explore import write_exploration

    options = read_options(audio_column, text_column, speaker_column, False, allow_outside)
    found = write_exploration(data, out, options, max_seconds)
    print(f"{found.to_text()}; look at {out}")
    if damaged := found.damaged:
        print(f"{len(damaged)} of these rows cannot be used; the first: {visible(damaged[0])}")
        raise typer.Exit(2)


def apply(
    corrections: Annotated[
        Path, typer.Argument(help="Corrections that the page of data explore has saved.")
    ],
    data: Data,
    out: Annotated[Path, typer.Argument(help="Manifest to write, a new file: OUT.jsonl.")],
    audio_column: AudioColumn = None,
    text_column: TextColumn = None,
    speaker_column: SpeakerColumn = None,
    allow_outside: AllowOutside = False,
) -> None:
    """Write a data set with corrected texts, which keeps what they were as text_before.

    A correction that does not fit its row any more is named and not applied; the exit code is
    then 2.
    """
    from echo.data.named import check_named
    from echo.support.files import writable_folder

    if out.suffix.lower() != ".jsonl":
        raise ConfigError(f"OUT is {brief(str(out))!r}, but must name a file that ends in .jsonl")
    check_named(data)
    writable_folder(out.parent)

    from echo.data.prepare.corrections import apply_corrections

    options = read_options(audio_column, text_column, speaker_column, True, allow_outside)
    done = apply_corrections(corrections, data, out, options)
    print(f"read {done.read}; wrote {done.written}, to {out}; left out {done.left_out}")
    print(f"corrected {done.corrected}; refused {len(done.refused)} corrections")
    for sentence in done.refused:
        print(f"  {visible(sentence)}")
    if done.refused or done.left_out.rows:
        raise typer.Exit(2)


def shard(
    data: Data,
    out: Annotated[Path, typer.Argument(help="Folder to write, new or empty.")],
    format: Annotated[
        Literal["flac", "opus"],
        typer.Option(
            help="Format of the audio: flac is lossless, opus takes a sixth of the space."
        ),
    ] = "flac",
    shard_size: Annotated[int, typer.Option(min=1, help="Most utterances in a shard.")] = 1000,
    shard_seconds: Annotated[
        float, typer.Option(min=1, help="Most audio in a shard, in seconds.")
    ] = float("inf"),
    audio_column: AudioColumn = None,
    text_column: TextColumn = None,
    speaker_column: SpeakerColumn = None,
    allow_outside: AllowOutside = False,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Number of processes that encode; by default one for each core."),
    ] = None,
) -> None:
    """Write a data set as tar shards, which training streams.

    Rows that cannot be used are named and left out; the exit code is then 2. The same command goes
    on where it was stopped.
    """
    from echo.data.named import check_named

    check_named(data)

    from echo.data.prepare.shard import write_shards
    from echo.data.sources import scan_source

    options = read_options(audio_column, text_column, speaker_column, False, allow_outside)
    done = write_shards(
        scan_source(data, replace(options, streaming=True)),
        out,
        format,
        shard_size,
        shard_seconds,
        workers=(os.cpu_count() or 1) if workers is None else workers,
        progress=True,
    )
    where = f"to {len(done.entries)} shards in {out}/"
    print(f"read {done.read}; wrote {done.written}, {where}; left out {done.left_out}")
    if done.left_out.rows:
        raise typer.Exit(2)


def convert(
    data: Data,
    out: Annotated[Path, typer.Argument(help="Folder to write, new or empty.")],
    to: Annotated[
        str,
        typer.Option(
            help="Format to write: nemo, hf (a saved data set of Hugging Face), kaldi, lhotse, "
            "common-voice or csv."
        ),
    ],
    audio_column: AudioColumn = None,
    text_column: TextColumn = None,
    speaker_column: SpeakerColumn = None,
    allow_outside: AllowOutside = False,
) -> None:
    """Write a data set in the layout of another tool.

    Rows that cannot be used are named and left out; the exit code is then 2.
    """
    from echo.data.named import check_named
    from echo.data.prepare.formats.registry import find_format

    find_format(to)
    check_named(data)

    from echo.data.prepare.convert import convert_data

    options = read_options(audio_column, text_column, speaker_column, False, allow_outside)
    done = convert_data(data, out, to, options, progress=True)
    print(f"read {done.read}; wrote {done.written}, to {out}/; left out {done.left_out}")
    for column, why in done.notes.items():
        print(f"  {brief(column)}: {why}")
    if done.named:
        print(
            f"the recordings of {done.named} rows stay where they are, outside of {out}/: "
            "commands that read it need --allow-outside"
        )
    if done.left_out.rows:
        raise typer.Exit(2)


def split(
    data: Annotated[
        list[str], typer.Argument(help=f"{DATA_HELP} With --check, the sides of a split.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for train.jsonl, dev.jsonl and test.jsonl, new or empty."),
    ] = None,
    dev: Annotated[
        str | None, typer.Option(help="Size of dev: a share of the hours (5%), or hours (2h).")
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Size of test: a share of the hours (5%), or hours (2h).")
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            help="What rows on two sides must not share, separated by commas: speaker, recording, "
            "text, or other columns."
        ),
    ] = "speaker,recording,text",
    stratify: Annotated[
        str | None,
        typer.Option(
            help="Columns whose values each side should have in the same shares, such as "
            "gender,language."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the choice of groups; by default 0.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(help="Folder of an earlier split, whose rows stay on their sides."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Report what existing sides share, by the rules and by sound."
        ),
    ] = False,
    audio_column: AudioColumn = None,
    text_column: TextColumn = None,
    speaker_column: SpeakerColumn = None,
    allow_outside: AllowOutside = False,
) -> None:
    """Split a data set into train, dev and test that share no speaker, recording or sentence."""
    from echo.data.named import check_named

    rules = read_names(by, "--by")
    strata = read_names(stratify, "--stratify") if stratify is not None else []
    if check:
        writing: dict[str, object] = {"out": out, "dev": dev, "test": test}
        writing |= {"stratify": stratify, "keep": keep, "seed": seed}
        if given := [f"--{option}" for option, value in writing.items() if value is not None]:
            raise ConfigError(f"--check writes nothing: leave out {', '.join(given)}")
        if len(data) < 2:
            raise ConfigError("--check compares the sides of a split: name at least two")
    elif len(data) > 1:
        raise ConfigError("split takes one data set; to compare the sides of a split, add --check")
    elif out is None or (dev is None and test is None):
        raise ConfigError("split needs a folder and a size: --out FOLDER --dev 5% --test 5%")
    for each in data:
        check_named(each)
    options = read_options(audio_column, text_column, speaker_column, False, allow_outside)
    if check:
        from echo.data.prepare.audit import audit_split, format_audit

        audit = audit_split(data, rules, options, workers=os.cpu_count() or 1)
        print(format_audit(audit))
        if audit.shared or audit.unusable or audit.unheard:
            raise typer.Exit(2)
        return
    assert out is not None

    from echo.data.prepare.split import read_size, split_source
    from echo.data.prepare.split_report import format_split

    sizes = {"dev": dev, "test": test}
    asked = {side: read_size(size, f"--{side}") for side, size in sizes.items() if size is not None}
    done = split_source(data[0], out, asked, rules, strata, seed or 0, keep, options)
    print(format_split(done))
    print(
        f"\nwritten to {out}/, outside of which the recordings lie: commands that read it need "
        "--allow-outside, and a run data.allow_outside=true"
    )
    if done.unusable:
        raise typer.Exit(2)


def filter(
    data: Data,
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for what is kept, what is rejected and the measures: a new one, or one "
            "with measures of the same data set, which is then not measured again."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A run's folder, a model's folder, or a hub id, whose transcripts judge the "
            "texts; by default no model does."
        ),
    ] = None,
    checkpoint: Checkpoint = "best",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only show the hours that each rule rejects. With --out, measures are kept.",
        ),
    ] = False,
    audio_column: AudioColumn = None,
    text_column: TextColumn = None,
    speaker_column: SpeakerColumn = None,
    allow_outside: AllowOutside = False,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Number of processes that measure; by default one for each core."),
    ] = None,
) -> None:
    """Keep the rows of a data set that a model can learn from, and say why others are rejected."""
    from echo.data.named import check_named
    from echo.support.settings import build_with_overrides

    if out is None and not dry_run:
        raise ConfigError("filter needs --out FOLDER, or --dry-run to only show the hours by rule")
    check_named(data)

    from echo.data.prepare.filter.filter import check_folder, filter_source
    from echo.data.prepare.filter.rules import FilterSettings

    settings = build_with_overrides(FilterSettings, {}, "command line", overrides or [])
    if out is not None:
        check_folder(out, data, dry_run)
    hear = None
    if model is not None:
        check_models([model], checkpoint)

        from echo.evaluate.hearing import HEARD, Hearing

        hear = Hearing.of(model, checkpoint, data, out / HEARD if out else None, progress=True)
    elif checkpoint != "best":
        raise ConfigError("--checkpoint has no effect without --model: leave it out")
    options = read_options(audio_column, text_column, speaker_column, True, allow_outside)
    found = filter_source(
        data,
        options,
        settings,
        out,
        (os.cpu_count() or 1) if workers is None else workers,
        hear,
        dry_run,
        progress=True,
    )
    print(found.to_text())
    if out is not None and not dry_run:
        print(f"kept.jsonl, rejected.jsonl and the measures are in {out}/")
    if found.unusable:
        raise typer.Exit(2)
