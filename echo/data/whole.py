"""Finds what a file of audio holds beyond what its decoder reads: libsndfile stops, without a word,
where the first of several recordings ends that were joined byte by byte, and where a header claims
less than follows."""

import re
from collections.abc import Iterator
from mmap import mmap
from typing import Literal, NamedTuple

Content = bytes | mmap

# How another recording of the same format begins. Joined WAV is found by its chunks, and AIFF is
# refused by libsndfile.
BEGINNINGS = {
    "FLAC": b"fLaC\0\0\0\x22",  # with the length of the block that always follows
    "CAF": b"caff\0\1\0\0",
    "AU": b".snd\0\0\0",
}
OGG_FIRST, OGG_LATER = b"OggS\0\2", b"OggS\0\0"  # pages, with the flags that tell them apart

UNKNOWN_SIZE = 0x7FFF0000  # bytes: what programs write that do not know it, and larger
IGNORED = 1000  # bytes after the last chunk of a WAV file, which some programs leave
TAGS = (b"ID3", b"TAG", b"APE")

SYNC = re.compile(rb"\xff[\xe2-\xff]")
RATES = (44_100, 48_000, 32_000)  # Hz, of MPEG-1; MPEG-2 has half of them, MPEG-2.5 a quarter
# kbit/s of layer III, of MPEG-1 and of the others
BITRATES = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
LOW_BITRATES = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
# Encoders add up to two frames before and after a recording, which decoders take off.
ADDED_FRAMES = 5


def not_heard(content: Content, format: str, seconds: float) -> str | None:
    """Returns what the decoder left of a file of libsndfile's `format`, as a clause that follows
    the file's name, or None where it heard so many seconds and that is all."""
    if format in ("WAV", "WAVEX", "RF64"):
        return outside_chunks(content)
    if format == "MP3":
        return outside_frames(content, seconds)
    if format == "OGG":  # several streams at a time begin with as many first pages
        found = content.find(OGG_FIRST, max(0, content.find(OGG_LATER)))
        found = found if OGG_LATER in content[:found] else -1
    else:
        found = content.find(BEGINNINGS[format], 1) if format in BEGINNINGS else -1
    return None if found < 0 else f"another recording begins at byte {found:,}"


def outside_chunks(content: Content) -> str | None:
    """What a WAV file holds outside of its chunks, or promises and does not hold."""
    order: Literal["little", "big"] = "big" if content[:4] == b"RIFX" else "little"
    place, end, long_size = 12, len(content), 0
    heard = False
    while place + 8 <= end:
        kind = content[place : place + 4]
        size = int.from_bytes(content[place + 4 : place + 8], order)
        if kind == b"ds64":  # of files beyond 4 GB: the size of the data is here
            long_size = int.from_bytes(content[place + 16 : place + 24], order)
        if kind == b"data" and not heard:
            heard = True
            if size >= UNKNOWN_SIZE:
                if not long_size:
                    return None  # libsndfile reads on to the end
                size = long_size
            if place + 8 + size > end + IGNORED:
                return f"it is cut off after {end - place - 8:,} of {size:,} bytes"
        elif kind in (b"RIFF", b"RIFX", b"RF64", b"data"):
            return f"another recording begins at byte {place:,}"
        elif not (kind.isascii() and kind.decode().isprintable() and place + 8 + size <= end + 1):
            break
        place += 8 + size + size % 2
    rest = content[place:].rstrip(b"\0")
    if len(rest) > IGNORED and not rest.startswith(TAGS):
        return f"{len(rest):,} bytes follow after where its header says that it ends"
    return None


class Frame(NamedTuple):
    """A frame of MPEG audio, layer III."""

    kind: int  # the bits of the header that all frames of a stream share
    size: int  # bytes
    samples: int
    rate: int  # Hz


def outside_frames(content: Content, seconds: float) -> str | None:
    """What an MP3 file holds beyond the frames that its header or its first frame promises."""
    lasting = 0.0
    count, promised, added = 0, 0, 0.0
    for place, frame in frames(content):
        head = content[place : place + 60]
        if (found := max(head.find(b"Xing"), head.find(b"Info"))) > 0 or b"VBRI" in head:
            if not count and found > 0 and head[found + 7] & 1:
                promised = int.from_bytes(head[found + 8 : found + 12], "big")
            continue  # not sound, but a table of contents
        count += 1
        lasting += frame.samples / frame.rate
        added = ADDED_FRAMES * frame.samples / frame.rate
    if lasting > seconds + added:
        return f"its frames last {lasting:.1f} s (it was joined of several, or lacks a header)"
    if count < promised - ADDED_FRAMES:
        return f"it is cut off after {count:,} of {promised:,} frames"
    return None


def frames(content: Content) -> Iterator[tuple[int, Frame]]:
    """Yields every frame and its place; tags and other bytes are passed over."""
    place, last = 0, None
    while place < len(content):
        frame = frame_at(content, place)
        if frame and (frame.kind == last or follows(content, place + frame.size, frame.kind)):
            yield place, frame
            place, last = place + frame.size, frame.kind
            continue
        last = None
        if content[place : place + 3] == b"ID3":
            size = 0
            for byte in content[place + 6 : place + 10]:  # seven bits each
                size = size << 7 | byte & 0x7F
            place += 10 + size
        else:
            found = SYNC.search(content, place + 1)
            place = found.start() if found else len(content)


def follows(content: Content, place: int, kind: int) -> bool:
    """Tells whether a frame of the same stream is there, or the end."""
    frame = frame_at(content, place)
    return place >= len(content) or bool(frame and frame.kind == kind)


def frame_at(content: Content, place: int) -> Frame | None:
    header = int.from_bytes(content[place : place + 4], "big")
    version, layer = header >> 19 & 3, header >> 17 & 3
    bitrate, rate = header >> 12 & 15, header >> 10 & 3
    if header >> 21 != 0x7FF or version == 1 or layer != 1 or bitrate in (0, 15) or rate == 3:
        return None
    first = version == 3
    hertz = RATES[rate] >> (0 if first else 1 if version == 2 else 2)
    samples = 1152 if first else 576
    bits = 1000 * (BITRATES if first else LOW_BITRATES)[bitrate]
    size = samples * bits // (8 * hertz) + (header >> 9 & 1)
    return Frame(header & 0xFFFE0C00, size, samples, hertz)
