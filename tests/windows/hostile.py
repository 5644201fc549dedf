# SPDX-License-Identifier: Apache-2.0
"""A guest whose memory each test damages anew."""

import json
import pathlib
import subprocess
import tempfile
import unittest

SECONDS = 30


class Damaged(unittest.TestCase):
    maxDiff = None
    tools = None

    @classmethod
    def build(cls):
        """The guest; the folder for it is cls.path."""
        raise unittest.SkipTest("this is for others to build on")

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = pathlib.Path(cls.folder.name)
        cls.guest = cls.build()
        cls.machine = "sim:%s" % cls.guest.save(cls.path)
        cls.truth = [record["truth"] for record in cls.guest.processes]
        memory = cls.guest.memory
        cls.original = {gpa: bytes(page) for gpa, page in memory.pages.items()}
        cls.free = list(memory.free)
        cls.pool = cls.guest.next_pool, cls.guest.pool_end
        cls.n = cls.guest.pointer

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def setUp(self):
        memory = self.guest.memory
        memory.pages.clear()
        memory.pages.update((gpa, bytearray(page)) for gpa, page in self.original.items())
        memory.free[:] = self.free
        self.guest.next_pool, self.guest.pool_end = self.pool

    def run_tool(self, name, *arguments):
        """The code, and what was told."""
        self.guest.memory.save(self.path / "memory.raw")
        done = subprocess.run([self.tools / ("hvmi-" + name), self.machine, *map(str, arguments),
                               "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=SECONDS, check=False)
        self.assertIn(done.returncode, (0, 1, 4), done.stderr)
        self.assertEqual(done.returncode != 0, bool(done.stderr))
        return done.returncode, json.loads(done.stdout.replace(b"\\\\\\\\", b"\\\\") or b"[]")
