"""Splits: nothing that was to be kept apart is on two sides, and hours are as asked for."""

import json
import random
from collections import defaultdict
from itertools import combinations

import numpy as np
import pytest

from echo.data.audio import AudioArray
from echo.data.prepare.audit import audit_split, format_audit
from echo.data.prepare.fingerprint import alike, fingerprint
from echo.data.prepare.groups import choose, components
from echo.data.prepare.rules import sentence_of
from echo.data.prepare.split import Size, read_size, split_source
from echo.data.prepare.split_report import format_split
from echo.data.sources import Columns, ReadOptions, read_source
from echo.support.errors import ConfigError, DataError, EchoError
from tests.data.recordings import tone, write, write_manifest

OUTSIDE = ReadOptions(allow_outside=True)
TENTHS = {"dev": Size(10, "%"), "test": Size(10, "%")}


def row(name, seconds=1.0, **columns):
    return {"audio_filepath": "a.wav", "id": name, "text": name, "duration": seconds} | columns


def source(folder, rows):
    """A manifest of parts of recordings that are never opened."""
    folder.mkdir(exist_ok=True)
    for each in rows:
        (folder / each["audio_filepath"]).write_bytes(b"RIFF")
    return write_manifest(folder / "rows.jsonl", *rows)


def speaker_rows(speakers=40, each=5, seed=0):
    draw = random.Random(seed)
    return [
        row(
            f"{speaker}-{i}",
            round(draw.uniform(1, 9), 3),
            audio_filepath=f"{speaker}.wav",
            offset=10 * i,
            speaker=str(speaker),
            gender="fm"[speaker % 2],
        )
        for speaker in range(speakers)
        for i in range(each)
    ]


def written(folder):
    """The rows of each side, as they are written."""
    return {
        path.stem: [json.loads(line) for line in path.read_text().splitlines()]
        for path in folder.iterdir()
    }


def ids(folder):
    return {side: {each["id"] for each in rows} for side, rows in written(folder).items()}


def bare(text):
    return "".join(character for character in text.lower() if character.isalnum())


def random_rows(draw):
    """Rows that share speakers, recordings and sentences, more or less often."""
    count = draw.choice((30, 100, 300))
    speakers, recordings, texts = (draw.randint(3, 2 * count) for _ in range(3))
    rows = []
    for i in range(count):
        sentence = f"Sentence {draw.randrange(texts)}"
        rows.append(
            row(
                f"r{i}",
                round(draw.uniform(0.5, 12), 3),
                audio_filepath=f"{draw.randrange(recordings)}.wav",
                offset=i,
                text=draw.choice((sentence, sentence.upper() + "!", f" {sentence.lower()}, ")),
                gender=draw.choice("fm"),
            )
        )
        if draw.random() < 0.9:
            rows[-1]["speaker"] = f"s{draw.randrange(speakers)}"
    rows[0]["speaker"] = "s0"
    return rows


def groups_of(rows):
    """The seconds of each group, found by merging sets."""
    groups = []
    for each in rows:
        keys = {("file", each["audio_filepath"]), ("text", bare(each["text"]))}
        if "speaker" in each:
            keys.add(("speaker", each["speaker"]))
        seconds, others = each["duration"], []
        for old, length in groups:
            if old & keys:
                keys, seconds = keys | old, seconds + length
            else:
                others.append((old, length))
        groups = [*others, (keys, seconds)]
    return [seconds for _, seconds in groups]


@pytest.mark.parametrize("block", range(10))
def test_nothing_is_on_two_sides(tmp_path, block):
    """Of 200 random data sets; and hours are within 1 % where groups are small enough."""
    for seed in range(20 * block, 20 * block + 20):
        draw = random.Random(seed)
        rows = random_rows(draw)
        out = tmp_path / f"out{seed}"
        share = draw.choice((5, 10, 20))
        sizes = {"dev": Size(share, "%"), "test": Size(share, "%")}
        spec = source(tmp_path / "data", rows)
        groups = groups_of(rows)
        options = {"stratify": ["gender"], "seed": seed}
        if len(groups) < 3:
            with pytest.raises(DataError, match=r"must stay on one side.* --by speaker"):
                split_source(spec, out, sizes, **options)
            assert not out.exists()
            continue
        split = split_source(spec, out, sizes, **options)
        assert split.groups == len(groups)
        sides = written(out)
        assert sorted(each["id"] for side in sides.values() for each in side) == sorted(
            each["id"] for each in rows
        )
        for one, other in combinations(sides.values(), 2):
            for key, tell in (("speaker", str), ("audio_filepath", str), ("text", bare)):
                shared = [
                    {tell(each[key]) for each in side if key in each} for side in (one, other)
                ]
                assert not shared[0] & shared[1], (seed, key)
        for side in sizes:
            asked = share / 100 * sum(groups)
            # Of groups that add up to twice that, none of them larger than a tenth of it, some
            # always come within 1 %.
            small = sorted(each for each in groups if each <= asked / 10)
            if sum(small) >= 3 * asked:
                held = sum(each["duration"] for each in sides[side])
                assert held == pytest.approx(asked, rel=0.01), (seed, side)


def test_strata_are_alike_on_all_sides(tmp_path):
    rows = speaker_rows(200, 3)
    for each in rows:  # one speaker in five is a woman
        each["gender"] = "f" if int(each["speaker"]) % 5 == 0 else "m"
    split_source(source(tmp_path / "data", rows), tmp_path / "out", TENTHS, stratify=["gender"])
    for side in written(tmp_path / "out").values():
        women = sum(each["duration"] for each in side if each["gender"] == "f")
        whole = sum(each["duration"] for each in rows if each["gender"] == "f")
        assert women / sum(each["duration"] for each in side) == pytest.approx(
            whole / sum(each["duration"] for each in rows), abs=0.015
        )


def test_the_same_rows_are_split_alike_in_any_order(tmp_path):
    """And otherwise with another seed."""
    rows = speaker_rows()
    split_source(source(tmp_path / "data", rows), tmp_path / "one", TENTHS)
    random.Random(1).shuffle(rows)
    spec = source(tmp_path / "data", rows)
    split_source(spec, tmp_path / "two", TENTHS)
    split_source(spec, tmp_path / "three", TENTHS, seed=1)
    assert ids(tmp_path / "one") == ids(tmp_path / "two") != ids(tmp_path / "three")


def test_a_seed_gives_this_split(tmp_path):
    """Whatever the machine and the version: others must get the same."""
    split_source(source(tmp_path / "data", speaker_rows()), tmp_path / "out", TENTHS)
    assert {each["speaker"] for each in written(tmp_path / "out")["dev"]} == {"9", "26", "29", "32"}


def test_columns_stay_and_parts_sound_the_same(tmp_path):
    """Nested ones too; recordings are found from the new folder, and ids do not change."""
    folder = tmp_path / "data"
    write(folder / "clips" / "é.wav", np.linspace(-0.5, 0.5, 64_000)[:, None])
    rows = [
        {"audio_filepath": "clips/é.wav", "offset": i, "duration": 1, "sentence": f"Text {i}",
         "client_id": i, "words": [{"at": 0.5}]}
        for i in range(3)
    ]  # fmt: skip
    rows.append({"audio_filepath": str(folder / "clips" / "é.wav"), "start": 3, "sentence": "x"})
    spec = write_manifest(folder / "rows.jsonl", *rows)
    before = {each.id: each for each in read_source(spec)}
    split_source(spec, tmp_path / "deep" / "out", {"dev": Size(25, "%")}, by=["text"])
    sides = [tmp_path / "deep" / "out" / f"{side}.jsonl" for side in ("train", "dev")]
    after = {each.id: each for side in sides for each in read_source(str(side), OUTSIDE)}
    assert before.keys() == after.keys()
    for name, old in before.items():
        new = after[name]
        assert new.audio.read()[0].equal(old.audio.read()[0])
        assert (new.text, new.speaker, new.extra) == (old.text, old.speaker, old.extra)
    assert any('"words": [{"at": 0.5}]' in side.read_text() for side in sides)


def test_kept_rows_stay_and_new_ones_follow_them(tmp_path):
    rows = speaker_rows()
    split_source(source(tmp_path / "data", rows), tmp_path / "one", TENTHS)
    before = ids(tmp_path / "one")
    speaker = {side: min(before[side]).partition("-")[0] for side in before}
    new = [row(f"new {side}", 2, speaker=speaker[side], audio_filepath=f"{side}.wav", offset=0)
           for side in before]  # fmt: skip
    # One by way of another, and one that belongs to two sides.
    new += [row("second", 1, text="New DEV", speaker="other", audio_filepath="b.wav")]
    new += [row("torn", 1, text=f"{speaker['test']}-0", speaker=speaker["dev"],
                audio_filepath="c.wav")]  # fmt: skip
    new += speaker_rows(80, seed=1)[200:]
    rows[7]["text"] = "corrected"
    spec = source(tmp_path / "data", new + rows)
    split = split_source(spec, tmp_path / "two", TENTHS, keep=tmp_path / "one", seed=5)
    after = ids(tmp_path / "two")
    assert after["left_out"] == {"torn"}
    for side, names in before.items():
        assert names <= after[side]
        assert f"new {side}" in after[side]
    assert "second" in after["dev"]
    assert split.held(1) == pytest.approx(split.asked["dev"], rel=0.01)
    assert "1 new rows" in format_split(split)


def test_prompts_of_all_speakers_are_named(tmp_path):
    """As the digits: the rule that joins all is named, and what to write instead."""
    rows = [
        row(f"{speaker}-{digit}", audio_filepath=f"{speaker}{digit}.wav", speaker=f"s{speaker}",
            text=digit)
        for speaker in range(6)
        for digit in ("Zero.", "one", "two")
    ]  # fmt: skip
    spec = source(tmp_path / "data", rows)
    with pytest.raises(DataError, match=r"1 group .*'text' .*'zero' alone is in 6 of the 6 .*--by "
                       "speaker,recording$"):  # fmt: skip
        split_source(spec, tmp_path / "out", TENTHS)
    assert not (tmp_path / "out").exists()
    split = split_source(spec, tmp_path / "out", TENTHS, by=["speaker", "recording"])
    assert split.groups == 6
    assert "dev has" in format_split(split)


def test_rows_without_what_is_asked_for_are_refused(tmp_path):
    rows = speaker_rows(4)
    spec = source(tmp_path / "data", [{k: v for k, v in each.items() if k != "speaker"}
                                      for each in rows])  # fmt: skip
    with pytest.raises(ConfigError, match=r"no row names its speaker.*--by recording,text$"):
        split_source(spec, tmp_path / "out", TENTHS)
    with pytest.raises(ConfigError, match=r"anything for 'accent' .*gender.*leave out --stratify"):
        split_source(spec, tmp_path / "out", TENTHS, by=["text"], stratify=["accent"])
    with pytest.raises(ConfigError, match=r"would take 9.000 of the .* hours"):
        split_source(spec, tmp_path / "out", {"dev": Size(9, "h")}, by=["text"])
    with pytest.raises(DataError, match="holds no earlier split"):
        split_source(spec, tmp_path / "out", TENTHS, by=["text"], keep=tmp_path)
    with pytest.raises(EchoError, match="is not an empty folder"):
        split_source(spec, tmp_path / "data", TENTHS)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    for size in ("5", "0%", "100%", "nan%", "-1h", "infh", "h", "", "2 hours"):
        with pytest.raises(ConfigError, match=r"--dev: .* must be a share such as 5%"):
            read_size(size, "--dev")


def test_a_row_that_cannot_be_used_does_not_stop_the_others(tmp_path):
    rows = speaker_rows()
    spec = source(tmp_path / "data", rows)
    (tmp_path / "data" / "3.wav").unlink()
    split = split_source(spec, tmp_path / "out", TENTHS)
    assert split.unusable == 5
    assert sum(map(len, ids(tmp_path / "out").values())) == len(rows) - 5


def test_components_are_those_of_a_search():
    draw = random.Random(0)
    for _ in range(50):
        count = draw.randint(1, 60)
        columns = [
            np.array([draw.randint(-1, draw.choice((3, 100))) for _ in range(count)])
            for _ in range(draw.randint(1, 3))
        ]
        near = defaultdict(set)
        for column in columns:
            for i, j in combinations(range(count), 2):
                if column[i] == column[j] >= 0:
                    near[i].add(j)
                    near[j].add(i)
        labels = components(count, columns)
        for start in range(count):
            seen, todo = {start}, [start]
            while todo:
                todo += (fresh := near[todo.pop()] - seen)
                seen |= fresh
            assert {*np.flatnonzero(labels == labels[start])} == seen


def test_few_groups_are_chosen_as_by_trying_all():
    """As near to what is asked as any subset, but for the size of a cell."""
    draw = random.Random(0)
    for _ in range(20):
        sizes = [draw.randint(1_000, 20_000) for _ in range(10)]
        goal = sum(sizes) // 4
        chosen = choose(range(10), [{0: size} for size in sizes], np.array([goal]))
        best = min(
            abs(sum(each) - goal) for count in range(1, 6) for each in combinations(sizes, count)
        )
        assert abs(sum(sizes[i] for i in chosen) - goal) <= best + goal / 100


def test_the_audit_finds_what_is_shared(tmp_path):
    folder = tmp_path / "data"
    voice = np.random.default_rng(0).standard_normal((3, 32_000, 1)) / 10
    for i, samples in enumerate(voice):
        write(folder / f"{i}.wav", samples)
    write(folder / "copy.ogg", 0.1 * voice[0])
    train = write_manifest(folder / "train.jsonl",
        {"audio_filepath": "0.wav", "text": "Good day.", "speaker": "a"},
        {"audio_filepath": "1.wav", "text": "two", "speaker": "b"})  # fmt: skip
    dev = write_manifest(folder / "dev.jsonl",
        {"audio_filepath": "copy.ogg", "text": "good day", "speaker": "c"},
        {"audio_filepath": "1.wav", "text": "three", "speaker": "d"})  # fmt: skip
    test = write_manifest(folder / "test.jsonl",
        {"audio_filepath": "2.wav", "text": "four", "speaker": "a"})  # fmt: skip
    audit = audit_split([train, dev, test], ["speaker", "recording", "text"])
    found = {(each.rule, *(side[len(str(folder)) + 1 : -6] for side in each.sides)): each.count
             for each in audit.shared}  # fmt: skip
    assert found == {
        ("speaker", "train", "test"): 1,
        ("recording", "train", "dev"): 1,
        ("text", "train", "dev"): 1,
        ("sound", "train", "dev"): 2,
    }
    assert f"{train}:1 and {dev}:1: goodday" in format_audit(audit)
    assert not audit_split([dev, test], ["speaker", "recording", "text"]).shared


def test_sound_is_known_in_any_format_and_at_any_level(shared, tmp_path):
    """And beginning earlier or later, but no recording for another."""
    clips = [
        each.audio.load() for each in read_source(str(shared / "data/librispeech/dev.jsonl"))[:6]
    ]
    changed = []
    for i, (clip, suffix) in enumerate(zip(clips, (".mp3", ".ogg", ".opus") * 2, strict=True)):
        path = write(tmp_path / f"{i}{suffix}", (0.2 * clip[1000:]).numpy()[:, None])
        changed += read_source(write_manifest(tmp_path / "m.jsonl",
            {"audio_filepath": path.name, "text": ""}))  # fmt: skip
    prints = [*map(fingerprint, clips), *(fingerprint(each.audio.load()) for each in changed)]
    assert [*alike(prints, [0] * 6 + [1] * 6)] == [(i, i + 6) for i in range(6)]


def test_silence_is_like_nothing():
    prints = [fingerprint(AudioArray(0 * tone(), 16_000, "").load()) for _ in range(2)]
    assert [*alike(prints, [0, 1])] == []


def test_columns_are_named(tmp_path):
    rows = [{**each, "who": each["speaker"], "speaker": "all"} for each in speaker_rows()]
    spec = source(tmp_path / "data", rows)
    with pytest.raises(DataError, match="1 group"):
        split_source(spec, tmp_path / "out", TENTHS)
    options = ReadOptions(Columns(speaker="who"))
    assert split_source(spec, tmp_path / "out", TENTHS, options=options).groups == 40


def test_sentences_of_ascii_are_those_of_any_text():
    draw = random.Random(0)
    for _ in range(200):
        text = "".join(draw.choices([chr(code) for code in range(128)], k=30))
        assert sentence_of(f"{text}é") == f"{sentence_of(text) or ''}é"
