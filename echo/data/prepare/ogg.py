"""Ogg files that depend on their sound alone."""

import zlib

HEAD = 27  # bytes of a page's header before its table of segments
SERIAL, CRC = slice(14, 18), slice(22, 26)
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def without_serial(content: bytes) -> bytes:
    """Returns an Ogg file whose stream has the number 0. libsndfile draws one at random, by which
    the same sound would be another file each time."""
    pages = bytearray()
    while len(pages) < len(content):
        start = len(pages)
        table = start + HEAD
        segments = content[table : table + content[table - 1]]
        page = bytearray(content[start : table + len(segments) + sum(segments)])
        page[SERIAL] = page[CRC] = bytes(4)
        # Ogg's CRC-32 takes the bits of each byte in the other order than zlib's.
        crc = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
        page[CRC] = crc.to_bytes(4, "big").translate(REVERSED)
        pages += page
    return bytes(pages)
