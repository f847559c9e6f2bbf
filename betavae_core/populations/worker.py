"""A process that trains models, one after another, on one thread: what it is sent it does.

A line on stdin is a job, or null: stop, with everything saved. A line on stdout is what happened:

    {"step": n}, {"row": {…}}, {"error": "…"}    of the job at hand
    {"warning": "…"}

The end of stdin ends the process at once, so it dies with its parent, however that dies.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, TextIO

import torch

from betavae_core.config import Config
from betavae_core.errors import Interrupted
from betavae_core.populations.member import describe, load_images, make
from betavae_core.populations.plan import Job

Messages = SimpleQueue[dict[str, Any] | None]


_images = cache(load_images)


def main() -> None:
    """Work until there is no more, or the parent wants no more or is gone."""
    torch.set_num_threads(1)
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no message
    warnings.showwarning = lambda message, *_: _say(channel, warning=str(message))
    messages: Messages = SimpleQueue()
    Thread(target=_listen, args=(messages,), daemon=True).start()
    try:
        for message in iter(messages.get, None):
            _work(message, channel)
    except (Interrupted, KeyboardInterrupt):
        pass  # all is saved
    finally:
        os._exit(0)  # an ordinary exit would fall over the thread that waits for stdin


def _listen(messages: Messages) -> None:
    """Pass on what comes in; null interrupts the run at hand as Ctrl-C does."""
    for line in sys.stdin:
        message = json.loads(line)
        messages.put(message)
        if message is None:
            signal.raise_signal(signal.SIGINT)
    os._exit(1)


def _work(message: dict[str, Any], channel: TextIO) -> None:
    try:
        job = Job(message["label"], message["setting"], Config(**message["settings"]))
        out, images = Path(message["out"]), _images(job.config.data, job.config.classes)
        _say(channel, row=make(job, out, images, lambda step: _say(channel, step=step)))
    except Interrupted:
        raise
    except Exception as error:
        _say(channel, error=describe(error))


def _say(channel: TextIO, **message: Any) -> None:
    channel.write(json.dumps(message) + "\n")
