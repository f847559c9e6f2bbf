"""Files in the true formats of the data sources, and a server that hands them out on loopback."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import numpy as np
from PIL import Image

from betavae_core.data.download import Remote

LETTERS = "emnist-letters-"


def idx(array: np.ndarray) -> bytes:
    """`array` as an IDX file of bytes."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def pictures(n: int, seed: int = 0, shape: tuple[int, ...] = (28, 28)) -> np.ndarray:
    """Noise, in which every pixel of every image has its own value."""
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def letters() -> dict[str, bytes]:
    """The four files of EMNIST's letters, transposed as they are published: 52 and 26 images."""
    files = {}
    for part, n, seed in (("train", 52, 0), ("test", 26, 1)):
        images = pictures(n, seed).transpose(0, 2, 1)
        files[f"{LETTERS}{part}-images-idx3-ubyte.gz"] = gzip.compress(idx(images), 1)
        labels = np.arange(n) % 26 + 1
        files[f"{LETTERS}{part}-labels-idx1-ubyte.gz"] = gzip.compress(idx(labels), 1)
    return files


def shapes3d(n: int = 24, side: int = 64, **storage: object) -> bytes:
    """An .h5 in the layout of 3D Shapes, of noise; all six factors occur."""
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        h5.create_dataset("images", data=pictures(n, 2, (side, side, 3)), **storage)
        h5.create_dataset("labels", data=shapes3d_labels(n))
    return file.getvalue()


def shapes3d_labels(n: int = 24) -> np.ndarray:
    """(n, 6) float64 values of the factors, as the file has them."""
    steps = (10, 10, 10, 8, 4, 15)
    return np.stack([np.linspace(0, 1, k)[np.arange(n) % k] for k in steps], axis=1)


def picture_file(pixels: np.ndarray, kind: str) -> bytes:
    """`pixels` as an image file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Hands out `files`; `/broken/…` ends half way, `/endless/…` never, `/wrong/…` lies."""

    def __init__(self, files: dict[str, bytes], asked: list[str], *args: object) -> None:
        self.files, self.asked = files, asked
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        _, kind, name = self.path.split("/", 2)
        content = self.files.get(name)
        if content is None or kind == "missing":
            self.send_error(404)
            return
        self.send_response(200)
        if kind != "endless":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if kind == "endless":
            content = bytes(1 << 20) * 8
        elif kind == "broken":
            content = content[: len(content) // 2]
        elif kind == "wrong":
            content = bytes([content[0] ^ 1]) + content[1:]
        try:
            self.wfile.write(content)
        except OSError:  # the client has hung up
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """The address of a server of `files` on this machine, and what it was asked for."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, files, asked))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def remote(name: str, content: bytes, *urls: str) -> Remote:
    """The file as it would be listed, with the checksum of `content`."""
    return Remote(name, len(content), f"sha256:{hashlib.sha256(content).hexdigest()}", urls)
