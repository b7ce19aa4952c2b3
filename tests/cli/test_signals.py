"""Signals: which ones end a run, what repeated ones do, and that a blocked run ends, too."""
import os, select, signal, time, unittest

from program import LONG, Terminal, fill, full_pipe, main, make_wav, noise, path, run, start, wait_for, wait_until_blocked

ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def read_lines(p, n):
    """Reads the program's output until it has n lines."""
    got = b""
    while got.count(b"\n") < n:
        piece = os.read(p.stdout.fileno(), 65536)
        assert piece, got
        got += piece
    return got


class Twice(unittest.TestCase):
    """Supervisors and timeout(1) send a signal twice, and wrappers forward a Ctrl-C that the program got, too."""
    def test_nothing_is_lost(self):
        sound = noise(2)
        want = run("--format", "tokens", "--pcm", "s16le", "-", data=sound).stdout
        for number in ENDING:
            for pause in [0, 0.005, 0.05]:
                p = start("--format", "tokens", "--pcm", "s16le", "-")
                p.stdin.write(sound)
                got = read_lines(p, 15)
                for _ in range(3):
                    p.send_signal(number)
                    time.sleep(pause)
                out, err = p.communicate(timeout=LONG)
                self.assertEqual((p.returncode, err), (0, b""), number)
                self.assertEqual(got + out, want, number)

    def blocked(self):
        """A run that waits for the reader of its standard output."""
        reader, writer = full_pipe()
        p = start("--format", "tokens", "--pcm", "s16le", "-", stdout=writer)
        os.close(writer)
        p.stdin.write(noise(2))
        wait_until_blocked(p)
        return p, reader

    def test_only_a_second_interrupt_leaves_at_once(self):
        for number in ENDING:
            p, reader = self.blocked()
            p.send_signal(number)
            time.sleep(0.1)
            p.send_signal(number)
            time.sleep(0.2)
            self.assertIsNone(p.poll(), number)
            time.sleep(0.5)
            p.send_signal(number)
            _, err = p.communicate(timeout=LONG)
            lost = b"surtitle: standard output is not being read: the rest is lost\n"
            self.assertEqual((p.returncode, err), (130, b"") if number == signal.SIGINT else (1, lost), number)
            os.close(reader)


class Silence(unittest.TestCase):
    def test_cut_short(self):
        """An input that a signal cuts short within silence is not reported as nothing but zeros."""
        p = start("--format", "jsonl", "--pace", make_wav("zeros.wav", bytes(32000 * 4)))
        read_lines(p, 1)
        p.send_signal(signal.SIGTERM)
        _, err = p.communicate(timeout=LONG)
        self.assertEqual((p.returncode, err), (0, b""))


class Command(unittest.TestCase):
    def test_its_end_is_no_signal(self):
        """One SIGTERM, then CMD ends, while the transcript's reader is blocked: CMD's status, and a complete transcript."""
        if b"needs libvterm" in run("--", "true").stderr:
            self.skipTest("this build has no libvterm")
        fifo, go = path("fifo"), path("go")
        os.mkfifo(fifo)
        os.mkfifo(go)
        terminal = Terminal()
        reader = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        p = terminal.start("--format", "tokens", "--pace", "--output", fifo, make_wav("clip.wav", noise(60)),
                           "--", "sh", "-c", f"read x <{go}; exit 5")
        door = os.open(go, os.O_WRONLY)  # returns when CMD has opened it
        wait_for(lambda: self.readable(reader), "no captions")
        fill(reader)
        wait_until_blocked(p)
        p.send_signal(signal.SIGTERM)
        began = time.monotonic()
        os.write(door, b"\n")
        time.sleep(1)
        left = p.poll()
        got = b""
        while p.poll() is None:
            if self.readable(reader):
                got += os.read(reader, 65536)
        took = time.monotonic() - began
        err = p.stderr.read()
        self.assertIsNone(left)
        self.assertEqual(p.returncode, 5, err)
        if took < 2.5:  # later, the 3 s for the reader may have been over
            self.assertTrue(got.endswith(b"\n") and b"lost" not in err, (got[-100:], err))

    @staticmethod
    def readable(fd):
        return bool(select.select([fd], [], [], 0.05)[0])


main()
