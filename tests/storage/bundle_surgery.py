"""Take a bundle apart and sign it again: what a hostile writer, who knows the format, can do."""

import hashlib
import json
import struct

HEADER = struct.Struct("<8sQQQ32s")


def split(content):
    """Return (the manifest as JSON, the bytes of the arrays)."""
    _, _, n_bytes, _, _ = HEADER.unpack(content[: HEADER.size])
    end = HEADER.size + n_bytes
    return json.loads(content[HEADER.size : end]), content[-(-end // 64) * 64 :]


def signed(manifest, data):
    """Return a bundle of any manifest (JSON or raw bytes) whose header fits it."""
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    end = HEADER.size + len(text)
    start = -(-end // 64) * 64
    digest = hashlib.sha256(text).digest()
    header = HEADER.pack(b"RECBNDL\n", 1, len(text), start + len(data), digest)
    return header + text + bytes(start - end) + data
