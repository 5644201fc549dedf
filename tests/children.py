# SPDX-License-Identifier: Apache-2.0
"""What the scripts that run emulated machines share: processes that end with this one, and how to end well."""

import os
import signal
import subprocess
import threading

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "hvmi")
SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scripts")
SKIPPED = 77
# For kernels in emulators: where the host is busy timers come late. Linux would take them for broken ones, which
# it panics of, and measure the TSC by them, so that its clock runs several times too fast.
COMMAND_LINE = "console=ttyS0 panic=-1 no_timer_check tsc=unstable "

# What is running now, so that a signal can end it; and no more begins after one.
children = set()
children_lock = threading.Lock()
stopping = threading.Event()


class Failure(Exception):
    pass


class Skipped(Exception):
    pass


def start(command, **arguments):
    """A child that does not outlive this process, however it ends."""
    arguments.setdefault("stdin", subprocess.DEVNULL)
    with children_lock:
        if stopping.is_set():
            raise Failure("interrupted")
        child = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", "--"] + command, **arguments)
        children.add(child)
    return child


def finished(child):
    with children_lock:
        children.discard(child)


def kill(child):
    if child.poll() is None:
        child.kill()
    child.wait()
    finished(child)


def interrupt(signum, _frame):
    stopping.set()
    for child in list(children):
        child.terminate()
    raise SystemExit(128 + signum)


def catch_signals():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


def run(command, **arguments):
    """(status, standard output, standard error)"""
    child = start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **arguments)
    try:
        out, err = child.communicate()
    finally:
        finished(child)
    return child.returncode, out.strip(), err.strip()


def fetch(script, *arguments):
    """The folder that a script of scripts/ fetches."""
    status, out, err = run([os.path.join(SCRIPTS, script)] + list(arguments))
    if status == SKIPPED:
        raise Skipped(err)
    if status:
        raise Failure("%s %s:\n%s" % (script, " ".join(arguments), err))
    return out


def fetch_kernel(name):
    return fetch("kernel-fetch.sh", name)
