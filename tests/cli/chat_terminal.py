"""rlhf chat at a pseudo-terminal: editing, commands, Ctrl-C while an answer comes, ways to leave.

Usage: chat_terminal.py RLHF MODEL (the fixtures' tiny model). Standard library only.
"""

import json
import os
import pty
import re
import select
import shutil
import signal
import sys
import tempfile
import time

SECONDS = 60.0  # far more than anything takes here, also on a busy machine


class Session:
    """A program at a terminal; everything it writes is kept."""

    def __init__(self, arguments):
        self.text = ""
        self.read_to = 0
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.environ["TERM"] = "xterm"
            os.environ["LC_ALL"] = "C"  # the text is UTF-8 all the same
            os.environ["HOME"] = "/nonexistent"
            os.execv(arguments[0], arguments)

    def send(self, text):
        os.write(self.terminal, text.encode())

    def expect(self, pattern):
        """Waits for the pattern in what was not expected yet, and returns the match."""
        end = time.monotonic() + SECONDS
        while True:
            found = re.search(pattern, self.text[self.read_to :], re.DOTALL)
            if found:
                self.read_to += found.end()
                return found
            if time.monotonic() > end or not self.read(end - time.monotonic()):
                raise SystemExit(f"/{pattern}/ was expected after {self.text[self.read_to:]!r}; all: {self.text!r}")

    def read(self, seconds):
        if not select.select([self.terminal], [], [], seconds)[0]:
            return False
        try:
            piece = os.read(self.terminal, 65536)
        except OSError:  # the other side is closed
            return False
        self.text += piece.decode(errors="replace")
        return bool(piece)

    def exit_code(self):
        while self.read(SECONDS):
            pass
        _, status = os.waitpid(self.process, 0)
        if os.WIFSIGNALED(status):
            return -os.WTERMSIG(status)
        return os.WEXITSTATUS(status)


def check(ok, what, session):
    if not ok:
        raise SystemExit(f"{what}: {session.text!r}")


PROMPT = r"> (?=[^>]*$)"
STATISTICS = r"(\d+) tokens[^;]*; prompt (\d+), (\d+) of it known, [^;]*; (\d+) of (\d+) in all"


def main():
    rlhf, model = sys.argv[1:]
    scratch = tempfile.mkdtemp()
    try:
        talk(rlhf, model, scratch)
        interrupt(rlhf, model, scratch)
    finally:
        shutil.rmtree(scratch)
    print("terminal: as expected")


def talk(rlhf, model, scratch):
    saved = os.path.join(scratch, "talk.jsonl")
    session = Session([rlhf, "chat", "--model", model, "--threads", "1", "--max_new_tokens", "8"])
    session.expect("room for 256 tokens")
    session.expect(PROMPT)
    session.send("/help\r")
    session.expect("/save FILE")
    session.expect(PROMPT)
    session.send("/nothing\r")
    session.expect("there is no command /nothing")
    session.expect(PROMPT)
    # A letter too much is taken back, and one is put in where the cursor goes.
    session.send("acx\x7f\x1b[Db\r")
    first = session.expect(STATISTICS)
    check(first[3] == "0", "nothing was known before the first turn", session)
    session.expect(PROMPT)
    session.send('"""\rline one\rline two\r"""\r')
    second = session.expect(STATISTICS)
    check(int(second[3]) > int(first[2]), "the first turn was expected to be known", session)
    session.expect(PROMPT)
    session.send("\x1b[A\x1b[A\x1b[A\x1b[A\x1b[A\r")  # the first turn again, from the history
    session.expect(STATISTICS)
    session.expect(PROMPT)
    # A line that is given up is no turn.
    session.send("given up\x03")
    session.expect("leaves")
    session.expect(PROMPT)
    session.send("/save " + saved + "\r")
    session.expect("one row was added")
    session.expect(PROMPT)
    with open(saved) as lines:
        messages = json.loads(lines.readline())["messages"]
    said = [m["content"] for m in messages if m["role"] == "user"]
    check(said == ["abc", "line one\nline two", "abc"], f"the turns were {said}", session)
    session.send("\x04")
    check(session.exit_code() == 0, "Ctrl-D was expected to leave with 0", session)

    session = Session([rlhf, "chat", "--model", model, "--threads", "1"])
    session.expect(PROMPT)
    session.send("\x03")
    session.expect("again")
    session.expect(PROMPT)
    session.send("\x03")
    check(session.exit_code() == 0, "a second Ctrl-C was expected to leave with 0", session)

    session = Session([rlhf, "chat", "--model", model, "--threads", "1"])
    session.expect(PROMPT)
    session.send("/exit\r")
    check(session.exit_code() == 0, "/exit was expected to leave with 0", session)

    # Ctrl-Z suspends it, with the line as it was. Only a shell with job control lets itself be suspended from.
    shell = ["/bin/bash", "-c", 'set -m; "$@"; echo SUSPENDED; fg', "bash"]
    session = Session(shell + [rlhf, "chat", "--model", model, "--threads", "1", "--max_new_tokens", "8"])
    session.expect(PROMPT)
    session.send("/res\x1a")
    session.expect("SUSPENDED")
    session.expect("> /res")
    session.send("et\r")
    session.expect("all turns are forgotten")
    session.expect(PROMPT)
    session.send("\x04")
    check(session.exit_code() == 0, "Ctrl-D was expected to leave with 0", session)

    # A signal ends it, with the terminal as it was before: characters are shown again.
    session = Session([rlhf, "chat", "--model", model, "--threads", "1"])
    session.expect(PROMPT)
    os.kill(session.process, signal.SIGTERM)
    check(session.exit_code() == -signal.SIGTERM, "SIGTERM was expected to end it", session)


def endless(model, scratch):
    """The model with room for very long answers, and no token that ends one."""
    folder = os.path.join(scratch, "endless")
    shutil.copytree(model, folder)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        path = os.path.join(folder, name)
        with open(path) as file:
            config = json.load(file)
        config.pop("eos_token_id", None)
        config.pop("eos_token", None)
        if name == "config.json":
            config["max_position_embeddings"] = 10_000_000
        with open(path, "w") as file:
            json.dump(config, file)
    with open(os.path.join(folder, "chat_template.jinja"), "w") as file:
        file.write("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    return folder


def interrupt(rlhf, model, scratch):
    folder = endless(model, scratch)
    saved = os.path.join(scratch, "cut.jsonl")
    arguments = [rlhf, "chat", "--model", folder, "--threads", "1", "--temperature", "0"]
    session = Session(arguments + ["--max_new_tokens", "5000000", "--cache_gib", "8"])
    session.expect(PROMPT)
    session.send("go on\r")
    session.expect(r"go on\r\n.{40}")  # the answer comes
    session.send("\x03")
    cut = session.expect("stopped; " + STATISTICS)
    check(0 < int(cut[1]) < 5000000, "an answer that was cut was expected", session)
    session.expect(PROMPT)
    # The program lives, the answer so far is part of the conversation.
    session.send("/save " + saved + "\r")
    session.expect("did not end by themselves: 1")
    session.expect(PROMPT)
    with open(saved) as lines:
        messages = json.loads(lines.readline())["messages"]
    check(len(messages) == 2 and messages[1]["content"], "an answer was expected to be saved", session)
    session.send("more\r")
    session.expect(r"more\r\n.{40}")
    session.send("\x03")
    session.expect("stopped; " + STATISTICS)
    session.expect(PROMPT)
    session.send("\x03")  # the second one, at the prompt
    check(session.exit_code() == 0, "Ctrl-C behind an answer that was stopped was expected to leave with 0", session)


main()
