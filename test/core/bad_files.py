"""Contents that no file should have, by the kind of file that they pretend to be."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

NOISE = np.random.default_rng(0).bytes(3000)
COMMON = {
    "empty": b"",
    "noise": NOISE,
    "zeros": bytes(1000),
    "utf16": "name: arm\n".encode("utf-16"),
    "latin1": "name: B\u00e4r\n".encode("latin-1"),
    "text": b"hello",
    "cut zip": b"PK\x03\x04" + NOISE[:50],
}
_LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
YAML = {
    "list": b"- 1\n- 2\n",
    "number": b"3\n",
    "null": b"null\n",
    "two documents": b"name: a\n---\nname: b\n",
    "key twice": b"name: a\nname: b\n",
    "key twice within": b"name: {a: 1, b: 2, a: 3}\n",
    "key twice, quoted": b"name: a\n'name': b\n",
    "laughs": _LAUGHS.encode(),
    "laughs by merging": _LAUGHS.replace("[", "{<<: [").replace("]\n", "]}\n").encode(),
    "within itself": b"a: &a {b: *a}\n",
    "unknown alias": b"a: *nobody\n",
    "anchor twice": b"a: &x 1\nb: &x 2\nc: *x\n",
    "deep": b"a: " + b"[" * 10**5,
    "deep mapping": b"{a: " * 10**4,
    "indented": b"".join(b" " * n + b"a:\n" for n in range(400)),
    "python tag": b"a: !!python/object/apply:os.system ['true']\n",
    "binary tag": b"a: !!binary aGVsbG8=\n",
    "set": b"a: !!set {b, c}\n",
    "own tag": b"a: !mine 3\n",
    "nul": b"a: \x00\n",
    "escaped nul": b'a: "\\0"\n',
    "half a pair": b'a: "\\ud800"\n',
    "tab": b"a:\n\t- 1\n",
    "open quote": b"a: 'x\n",
    "open bracket": b"a: [1, 2\n",
    "bad escape": b'a: "\\q"\n',
    "number as key": b"1: a\n",
    "yes as key": b"yes: a\n",
    "null as key": b"null: a\n",
    "list as key": b"[1, 2]: a\n",
    "huge number": b"a: " + b"9" * 5000 + b"\n",
    "large": b"a: " + b"x" * 10**6 + b"\n",
    "many keys": b"".join(b"k%d: 1\n" % n for n in range(30000)),
    "unknown key": b"no_such_key: 1\n",
    "merge of text": b"<<: text\n",
}
JSON = {
    "list": b"[1, 2]",
    "number": b"3",
    "null": b"null",
    "text": b'"a"',
    "cut": b'{"schema": 1, "name": ',
    "key twice": b'{"schema": 1, "schema": 2}',
    "key twice within": b'{"a": {"b": 1, "c": 2, "b": 3}}',
    "nan": b'{"schema": NaN}',
    "infinity": b'{"schema": Infinity}',
    "huge number": b'{"schema": ' + b"9" * 5000 + b"}",
    "deep": b"[" * 10**5,
    "deep object": b'{"a":' * 10**5,
    "half a pair": b'{"schema": "\\ud800"}',
    "nul": b'{"schema": "\\u0000"}',
    "two values": b"{} {}",
    "comment": b'{"schema": 1} // here',
    "single quotes": b"{'schema': 1}",
    "unknown key": b'{"no_such_key": 1}',
    "empty object": b"{}",
    "nested": b'{"schema": {"a": [1, {"b": 2}]}}',
}


def npy(shape: str, kind: str = "<f4", data: bytes = b"", version: int = 1) -> bytes:
    """An array file whose header says what it likes."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + data


NPY = {
    "huge": npy("(1000000, 1000000, 1000)"),
    "larger than a number": npy("(99999999999999999999999,)"),
    "negative": npy("(-5, 3)"),
    "text shape": npy("'abc'"),
    "objects": npy("(2,)", "|O", pickle.dumps([1, 2])),
    "no array": npy("()", data=bytes(4)),
    "other kind": npy("(2,)", "<c16", bytes(32)),
    "cut": npy("(4, 9, 10)", data=bytes(10)),
    "long header": b"\x93NUMPY\x02\x00" + struct.pack("<I", 10**9),
    "code": npy("__import__('os').getcwd()"),
    "deep": npy("(" * 5000),
}


def archive(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(name.replace("__", "/"), content)
    return out.getvalue()


def _nested(kind: Callable[[list[Any]], Any], depth: int = 40) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = kind([value, value])
    return value


# The body of a pickle, without its frame: it can be put into another one.
_SHARED = pickle.dumps(_nested(tuple), 2)[2:-1]
PICKLES = {
    "shared lists": pickle.dumps(_nested(list)),
    "shared tuples": pickle.dumps(_nested(tuple)),
    "key of shared tuples": b"\x80\x02}(" + _SHARED + b"K\x01u.",
    "set of shared tuples": b"\x80\x04\x8f(" + _SHARED + b"\x90.",
    "deep": b"\x80\x04" + b"]" * 20000 + b"a" * 19999 + b".",
    "within itself": b"\x80\x02]q\x00h\x00a.",
    "large bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "large number": b"\x80\x02\x8b" + struct.pack("<i", 2**30) + b"x.",
    "long text number": b"I" + b"9" * 5000 + b"\n.",
    "a call": b"cos\nsystem\n(S'true'\ntR.",
    "many names": b"\x80\x02" + b"".join(b"cx\nn%d\n0" % n for n in range(5000)) + b"N.",
    "ends at once": b".",
    "never ends": b"\x80\x02N",
    "extension": b"\x80\x02\x82\x01.",
    "lost mark": b"\x80\x02u.",
    "persistent": b"\x80\x02]Q.",
}


def torch_file(pickled: bytes) -> bytes:
    """A file of `torch.save` around a pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        target.writestr("archive/data.pkl", pickled)
        target.writestr("archive/data/0", bytes(16))
    return out.getvalue()


TORCH = {name: torch_file(content) for name, content in PICKLES.items()}
TORCH |= {
    "packed": archive(archive__data__pkl=b"N."),
    "no pickle": archive(other=b"x"),
    "legacy": bytes.fromhex("80028a0a6cfc9c46f9206aa850192e") + b"x",
}


def png(width: int, height: int) -> bytes:
    """A picture whose header promises a size, and nothing behind it."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


PICTURES = {
    "bomb": png(60000, 60000),
    "larger than a number": png(2**31 - 1, 2**31 - 1),
    "without pixels": png(0, 0),
    "cut": png(96, 96)[:60],
    "head of a jpeg": b"\xff\xd8\xff\xe0" + NOISE[:100],
    "gif": b"GIF89a" + NOISE[:20],
    "page": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "json": json.dumps({}).encode(),
}
VIDEOS = {
    "head of an mp4": struct.pack(">I", 24) + b"ftypisom" + NOISE[:200],
    "box without end": struct.pack(">I", 1) + b"moov" + struct.pack(">Q", 2**62),
    "matroska": b"\x1aE\xdf\xa3" + NOISE[:200],
    "avi": b"RIFF\xff\xff\xff\xffAVI " + NOISE[:100],
}
