"""Windows: what is in them, what of it is learned, and that an epoch still is an epoch."""

import random
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from itertools import islice, pairwise

import numpy as np
import pytest
import torch

from echo.config import AugmentSettings, DataSettings, PackSettings
from echo.data.audio import AudioArray, AudioFile, AudioSlice
from echo.data.batch import IGNORED, Collator
from echo.data.batching import EpochBatches, Position
from echo.data.corpora.stream import MixedCorpus, StreamCorpus, Weighted
from echo.data.examples import ExampleReader
from echo.data.features import log_mel
from echo.data.loading import TrainingSet, training_loader
from echo.data.packing import LONGEST_PREFIX, MIN_BEGUN, Packer, Window
from echo.data.tokenizer import encode_transcript, special_ids
from echo.data.utterance import FixedCorpus, Utterance
from echo.model.geometry import Limits
from echo.support.errors import DataError
from echo.train.losses.joint import text_mask
from tests.small_multilingual import SPECIAL, small_tokenizer

RATE = 16_000
LIMITS = Limits(n_mels=80, max_frames=3000, max_tokens=448)
TOKENIZER = small_tokenizer(language="de", task="translate")
IDS = {token: TOKENIZER.convert_tokens_to_ids(token) for token in SPECIAL}
BEGINNING = Position()
FIRST_TIME = IDS["<|notimestamps|>"] + 1


@lru_cache
def samples(level, seconds):
    return np.full(round(seconds * RATE), level, dtype=np.float32)


def utterance(number, speaker="anna", seconds=None):
    """One whose samples say its number."""
    seconds = seconds or 2 + number % 5
    audio = AudioArray(samples(number % 50 / 50, seconds), RATE, f"{number}.wav")
    name = f"train.jsonl:{number + 1}"
    return Utterance(f"u{number}", audio, f"fox {number}", seconds, speaker, name)


def speech(count=40):
    return [utterance(number, "anna" if number % 3 else "bert") for number in range(count)]


def packer(**settings):
    return Packer(PackSettings(**settings), TOKENIZER, LIMITS.max_tokens)


def parts(row):
    return row.parts if isinstance(row, Window) else (row,)


def windows(rows, **settings):
    packed = packer(**{"share": 1.0, **settings}).pack(rows, [1.0], random.Random(1))
    return [row for row, _ in packed if isinstance(row, Window)]


def drawn(sampler, count):
    return [[(*map(id_of, parts(i.row)), i.speed) for i in b] for b in islice(sampler, count)]


def id_of(part):
    return part.id


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_every_utterance_comes_once_in_windows_that_are_not_too_long(share):
    rows = [*speech(), utterance(100, "carl"), utterance(101, None), utterance(102, None)]
    packed = packer(seconds=20, share=share).pack(rows, [0.9, 1.0, 1.1], random.Random(1))
    assert Counter(p.id for row, _ in packed for p in parts(row)) == Counter(r.id for r in rows)
    joined = [(row, speed) for row, speed in packed if isinstance(row, Window)]
    assert bool(joined) == (share > 0)
    for window, speed in joined:
        assert len({part.speaker for part in window.parts}) == 1
        numbers = [int(part.id[1:]) for part in window.parts]
        assert numbers == sorted(numbers)  # as in the source, where 9 comes before 10
        assert window.duration <= 20 * speed + 1e-9
        assert sum(p.duration for p in window.parts) + sum(window.pauses) >= 0


def test_half_of_the_utterances_are_joined():
    rows = [utterance(number, f"speaker {number // 30}") for number in range(1500)]
    packed = packer(share=0.5).pack(rows, [1.0], random.Random(1))
    joined = sum(len(row.parts) for row, _ in packed if isinstance(row, Window))
    assert 0.4 < joined / len(rows) < 0.6


def test_a_recording_is_joined_though_no_speaker_is_known():
    rows = [replace(utterance(n, None), extra={"recording": n // 5}) for n in range(1, 11)]
    found = windows(rows)
    assert found
    for window in found:
        assert len({part.extra["recording"] for part in window.parts}) == 1


def test_what_weighs_twice_does_not_follow_itself():
    rows = [utterance(number, seconds=2.0) for number in range(30)]
    corpus = MixedCorpus([Weighted(rows, 2.0)], [], seed=1)
    packed = packer(share=1.0).pack(corpus.train_epoch(0), [1.0], random.Random(1))
    texts = [part.text for row, _ in packed for part in parts(row)]
    assert Counter(Counter(texts).values()) == {2: 30}
    assert all(len({p.id for p in parts(row)}) == len(parts(row)) for row, _ in packed)


def test_no_window_has_more_tokens_than_the_decoder_takes():
    rows = [replace(utterance(n, seconds=1.0), text="quick " * 9) for n in range(40)]
    most = 150
    found = Packer(PackSettings(share=1.0, prompt_share=1.0), TOKENIZER, most)
    reader = ExampleReader(TOKENIZER, replace(LIMITS, max_tokens=most))
    prompts, lengths = [], []
    for row, speed in found.pack(rows, [1.0], random.Random(1)):
        if isinstance(row, Window):
            example = reader.read(row, speed)
            prompts.append(len(example.prompt))
            lengths.append(len(example.tokens))
            assert len(example.prompt) + len(example.tokens) - 1 <= most
            assert len(example.prompt) <= most // 2
    assert max(lengths) > most - 60  # and as many as it takes
    assert max(prompts) > 0


def test_a_window_is_its_parts_with_their_times_and_the_start_of_what_is_cut_off():
    rows = [utterance(number) for number in range(40)]
    with_next = [w for w in windows(rows, prompt_share=0.0) if w.begun]
    assert with_next
    for window in with_next:
        example = ExampleReader(TOKENIZER, LIMITS).read(window)
        assert example.seconds == 30
        expected, samples = [], []
        for part, pause in zip([*window.parts, window.begun], window.pauses, strict=True):
            samples.append(torch.zeros(round(pause * RATE)))
            start = sum(map(len, samples)) / RATE
            samples.append(part.audio.load())
            expected += [round(start * 50), part.text, round(sum(map(len, samples)) / RATE * 50)]
        assert len(torch.cat(samples)) > 30 * RATE >= sum(map(len, samples[:-1])) + MIN_BEGUN * RATE
        heard = torch.cat(samples)[: 30 * RATE]
        torch.testing.assert_close(example.features, log_mel(heard, 80))
        prompt = ["<|startoftranscript|>", "<|de|>", "<|translate|>"]
        assert TOKENIZER.convert_ids_to_tokens(example.tokens[:3]) == prompt
        assert example.tokens[-1] == IDS["<|endoftext|>"]
        assert as_written(example.tokens[3:-1]) == expected[:-2]


def as_written(ids):
    """Times in steps of 20 ms, and the texts between them."""
    found, text = [], []
    for token in [*ids, FIRST_TIME]:
        if token < FIRST_TIME:
            text.append(token)
            continue
        if text:
            found.append(TOKENIZER.decode(text).strip())
        found.append(token - FIRST_TIME)
        text = []
    return found[:-1]


def test_times_follow_the_speed():
    (window,) = windows([utterance(n) for n in range(3)], prompt_share=0.0)[-1:]
    slow, fast = (ExampleReader(TOKENIZER, LIMITS).read(window, s) for s in (0.8, 1.25))
    for example in (slow, fast):
        times = [t for t in as_written(example.tokens[3:-1]) if isinstance(t, int)]
        assert times == sorted(times)
        assert times[-1] == pytest.approx(example.seconds * 50, abs=1)
    assert slow.seconds / fast.seconds == pytest.approx(1.25 / 0.8, rel=1e-3)


def test_the_text_before_is_a_prompt_without_a_loss():
    rows = [utterance(number) for number in range(60)]
    found = [w for w in windows(rows, prompt_share=1.0) if w.parts[0].id != "u0"]
    examples = [ExampleReader(TOKENIZER, LIMITS).read(window) for window in found]
    batch = Collator(TOKENIZER.pad_token_id)(examples)
    for window, example, tokens, labels in zip(
        found, examples, batch.decoder_input_ids.tolist(), batch.labels.tolist(), strict=True
    ):
        first = int(window.parts[0].id[1:])
        before = " ".join(f"fox {number}" for number in range(first))
        start = tokens.index(IDS["<|startoftranscript|>"])
        assert tokens[0] == IDS["<|startofprev|>"]
        assert start <= 448 // 2
        text = TOKENIZER.decode(tokens[1:start])
        assert f" {before}".endswith(text)
        assert len(text) == min(len(before) + 1, 223)  # of characters
        assert labels[:start] == [IGNORED] * start
        assert labels[start:][: len(example.tokens) - 1] == example.tokens[1:]


def test_half_of_the_windows_are_prompted():
    rows = [utterance(number, f"speaker {number // 30}") for number in range(1500)]
    found = [w for w in windows(rows) if not w.parts[0].id.endswith("0")]
    assert 0.4 < sum(bool(w.previous) for w in found) / len(found) < 0.6


def test_ctc_and_attention_losses_read_the_text_alone():
    rows = [utterance(number) for number in range(40)]
    examples = [ExampleReader(TOKENIZER, LIMITS).read(w) for w in windows(rows, prompt_share=1.0)]
    batch = Collator(TOKENIZER.pad_token_id)(examples)
    is_text = text_mask(batch.labels, special_ids(TOKENIZER))
    for labels, mask, window in zip(batch.labels, is_text, batch.utterances, strict=True):
        assert TOKENIZER.decode(labels[mask]).split() == window.text.split()


def test_a_part_that_cannot_be_read_is_left_out_and_named(tmp_path):
    rows = [utterance(number, seconds=3.0) for number in range(6)]
    rows[2] = replace(rows[2], audio=AudioFile(tmp_path / "gone.wav"))
    found = [(w, ExampleReader(TOKENIZER, LIMITS).read(w)) for w in windows(rows)]
    (window, example) = next((w, e) for w, e in found if rows[2] in w.parts)
    heard = [t for t in as_written(example.tokens[3:-1]) if isinstance(t, str)]
    assert heard == [p.text for p in window.parts if p.id != "u2"]
    batch = Collator(TOKENIZER.pad_token_id)([example])
    assert [str(problem) for problem in batch.skipped] == [
        f"train.jsonl:3: {tmp_path / 'gone.wav'}: no such recording"
    ]
    assert "gone.wav" in str(all_gone(rows[2]))


def all_gone(row):
    with pytest.raises(DataError) as raised:
        ExampleReader(TOKENIZER, LIMITS).read(
            Window("w", row.audio, "", 1.0, parts=(row,), pauses=(0.0,), seconds=30)
        )
    return raised.value


def test_batches_depend_on_seed_and_epoch_alone_and_go_on_from_a_position():
    corpus = FixedCorpus(speech(80), [])

    def sampler(seed=1, start=BEGINNING, rank=0, world=1):
        return EpochBatches(
            corpus, seed, 60, 4, [0.9, 1.1], start, rank, world, LIMITS, packer(share=0.7)
        )

    whole = sampler()
    batches = drawn(whole, 30)
    positions = list(whole.positions())
    assert positions[-1].epoch > 0
    assert drawn(sampler(), 30) == batches
    assert drawn(sampler(seed=2), 30) != batches
    for number in (1, 7, 20):
        assert drawn(sampler(start=positions[number]), 9) == batches[number + 1 : number + 10]
    for rank in (0, 1, 2):
        assert drawn(sampler(rank=rank, world=3), 10) == batches[rank::3]
    epochs = [sampler().block_batches(epoch, 0) for epoch in (0, 1)]
    ids = [Counter(p.id for b in e for i in b for p in parts(i.row)) for e in epochs]
    assert ids[0] == ids[1] == Counter(u.id for u in corpus.train)
    first, second = ({i.row.id for b in e for i in b} for e in epochs)
    assert first != second  # other windows in each epoch
    for batch in epochs[0]:
        longest = max(i.row.duration / i.speed for i in batch)
        assert len(batch) == 1 or len(batch) * longest <= 60


def test_a_stream_is_packed_block_by_block():
    shards = [[*speech(80)][start : start + 10] for start in range(0, 80, 10)]
    corpus = StreamCorpus([Weighted(shards)], [], seed=1, shards_per_block=4)
    sampler = EpochBatches(corpus, 1, 60, 4, [1.0], Position(), packer=packer(share=0.7))
    found = [i for block in range(2) for b in sampler.block_batches(0, block) for i in b]
    assert Counter(p.id for i in found for p in parts(i.row)) == Counter(u.id for u in speech(80))
    assert any(isinstance(item.row, Window) for item in found)


def test_workers_read_what_the_training_process_does():
    corpus = FixedCorpus(speech(30), [])
    reader = ExampleReader(TOKENIZER, LIMITS)
    found = []
    for workers in (0, 2):
        data = DataSettings(workers=workers, augment=AugmentSettings(), timestamps=0.5)
        sampler = EpochBatches(
            corpus, 1, 60, 4, [0.9, 1.1], Position(), limits=LIMITS, packer=packer()
        )
        found.append([*islice(training_loader(corpus, sampler, reader, data, 1), 4)])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one.input_features, other.input_features)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.decoder_input_ids, other.decoder_input_ids)


def test_no_window_gets_the_timestamps_of_single_utterances():
    rows = speech(20)
    sampler = EpochBatches(
        FixedCorpus(rows, []), 1, 60, 4, [1.0], Position(), packer=packer(share=1.0)
    )
    data = TrainingSet(
        FixedCorpus(rows, []), ExampleReader(TOKENIZER, LIMITS), DataSettings(timestamps=1.0), 1
    )
    for item in sampler.block_batches(0, 0)[0]:
        example = data[item]
        assert example.tokens == ExampleReader(TOKENIZER, LIMITS).read(item.row, item.speed).tokens


@pytest.mark.parametrize(("room", "timed"), [(1, True), (0, False)])
def test_a_transcript_gets_timestamps_where_the_decoder_has_room(room, timed):
    rows = [utterance(0)]
    plain = encode_transcript(TOKENIZER, rows[0].text)
    limits = replace(LIMITS, max_tokens=len(plain) - 1 + room)
    corpus = FixedCorpus(rows, [])
    data = TrainingSet(corpus, ExampleReader(TOKENIZER, limits), DataSettings(timestamps=1.0), 1)
    sampler = EpochBatches(corpus, 1, 60, 4, [1.0], Position())
    tokens = data[sampler.block_batches(0, 0)[0][0]].tokens
    assert len(tokens) - 1 == limits.max_tokens
    assert (tokens == plain) is not timed


def test_nothing_is_begun_after_a_transcript_that_leaves_no_room():
    rows = [replace(utterance(n, seconds=20.0), text="quick " * 9) for n in range(4)]
    one = len(TOKENIZER("quick " * 9, add_special_tokens=False).input_ids)
    for most, begins in ((LONGEST_PREFIX + one + 2, True), (LONGEST_PREFIX + one + 1, False)):
        found = Packer(PackSettings(share=1.0), TOKENIZER, most)
        packed = [row for row, _ in found.pack(rows, [1.0], random.Random(1))]
        assert any(isinstance(row, Window) and row.begun is not None for row in packed) is begins
        reader = ExampleReader(TOKENIZER, replace(LIMITS, max_tokens=most))
        for row in packed:
            example = reader.read(row)
            assert len(example.prompt) + len(example.tokens) - 1 <= most


def across(**settings):
    return {"seconds": 12, "across_speakers": True, **settings}


def test_across_speakers_every_utterance_comes_once_and_any_are_joined():
    rows = speech(60)
    packed = packer(**across(share=0.7)).pack(rows, [1.0], random.Random(3))
    assert Counter(map(id_of, (p for row, _ in packed for p in parts(row)))) == Counter(
        map(id_of, rows)
    )
    found = [row for row, _ in packed if isinstance(row, Window)]
    assert any(len({part.speaker for part in row.parts}) > 1 for row in found)
    assert all(row.duration <= 12 and row.begun is None for row in found)
    lengths = [row.duration for row in found]
    assert min(lengths) < 8 < max(lengths)  # each to a length of its own


def test_across_speakers_a_window_is_labelled_with_the_text_alone():
    found = windows(speech(), **across())[0]
    reader = ExampleReader(TOKENIZER, LIMITS)
    joined_text = " ".join(part.text for part in found.parts)
    alone = replace(found.parts[0], text=joined_text)
    assert reader.read(found).tokens == reader.read(alone).tokens
    assert not any(token >= FIRST_TIME for token in reader.read(found).tokens)


def test_epochs_before_the_first_joined_one_have_single_utterances():
    corpus = FixedCorpus(speech(), [])
    joins = packer(**across(share=1.0, after_epochs=2))
    sampler = EpochBatches(corpus, 1, 60, 64, [1.0], BEGINNING, packer=joins)
    for epoch, is_joined in enumerate((False, False, True, True)):
        items = [item for batch in sampler.block_batches(epoch, 0) for item in batch]
        assert any(isinstance(item.row, Window) for item in items) == is_joined


def test_a_prompt_has_no_effect_across_speakers():
    with pytest.raises(ValueError, match="prompt_share has no effect"):
        PackSettings(**across(prompt_share=0.5))


def test_parts_that_follow_one_another_keep_what_was_recorded_between_them():
    """A window of them is a stretch of the recording, at its times."""
    noise = np.random.default_rng(0).standard_normal(RATE * 100).astype(np.float32)
    whole = AudioArray(noise, RATE, "call.wav")
    times = [(n + 0.1 * (n % 3), n + 0.9) for n in range(40)] + [(45, 46), (46, 47), (46.5, 47.5)]
    rows = [
        Utterance(
            f"u{n}",
            AudioSlice(whole, *at),
            f"fox {n}",
            at[1] - at[0],
            "ab"[n % 2],
            extra={"recording": "call"},
        )
        for n, at in enumerate(times)
    ]
    found = windows(rows[::-1], seconds=9, prompt_share=0.0)
    spans = []
    for window in found:
        starts = [times[int(part.id[1:])] for part in [*window.parts, window.begun] if part]
        assert starts == sorted(starts)
        recorded = [b[0] - a[1] for a, b in pairwise(starts)]
        close = [0 <= gap <= 2 for gap in recorded]
        for gap, pause, is_close in zip(recorded, window.pauses[1:], close, strict=False):
            assert (pause == pytest.approx(gap, abs=1e-3)) == is_close
        if all(close):
            spans.append(window)
            example = ExampleReader(TOKENIZER, LIMITS).read(window)
            lead = torch.zeros(round(window.pauses[0] * RATE))
            end = starts[0][0] + window.duration if window.begun else window.parts[-1].audio.end
            stretch = noise[round(starts[0][0] * RATE) : round(end * RATE)]
            heard = torch.cat([lead, torch.from_numpy(stretch)])[: round(example.seconds * RATE)]
            assert example.seconds == pytest.approx(len(heard) / RATE, abs=1e-3)
            assert torch.equal(example.features, log_mel(heard, 80))
            assert torch.equal(window.audio.load(), heard[: len(window.audio.load())])
    assert len(spans) > 2
    assert len({part.speaker for part in spans[0].parts}) == 2
