"""A reward worker that does what each question's column `do` says. A right reward is key / 2 + 0.25.

    fake.py MODE [FILE]   MODE: usual, or how it starts: dead, mute, babble, deaf, shut, once, stay
"""
import json
import os
import signal
import subprocess
import sys
import time


def write(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def answer(question):
    write(json.dumps({"id": question["id"], "reward": question["columns"]["key"] / 2 + 0.25}))


def start(mode, file):
    if mode == "dead" or (mode == "once" and os.path.exists(file)):
        sys.stderr.write("first line\nno licence found\n")
        sys.exit(5)
    if mode == "mute":
        time.sleep(1000)
    if mode == "once":
        open(file, "w").close()
    if mode == "shut":
        os.close(0)
    if mode == "stay":
        child = subprocess.Popen(["sleep", "1000"])
        with open(file, "a") as out:
            out.write("%d\n%d\n" % (os.getpid(), child.pid))
    write("hello" if mode == "babble" else '{"ready": true}')
    if mode in ("deaf", "shut"):
        time.sleep(1000)


def act(question, last_id):
    what = question["columns"]["do"]
    if what == "signal":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "exit":
        sys.stderr.write("out of luck\n")
        sys.stderr.flush()
        os._exit(3)
    if what == "mark":
        open(question["prompt"], "w").close()
    if what in ("hang", "late"):
        time.sleep(1000 if what == "hang" else 2.0)
    if what == "stderr":
        for _ in range(160):
            sys.stderr.write("x" * 65535 + "\n")
    lines = {
        "garbage": "gar\tbage \u00e9 " + "y" * 200,
        "list": "[1, 2]",
        "empty": "",
        "wrong_id": json.dumps({"id": question["id"] + 1, "reward": 99}),
        "stale": json.dumps({"id": last_id, "reward": 99}),
        "own_id": json.dumps({"id": 1, "reward": 99}),
        "no_id": '{"reward": 99}',
        "no_reward": json.dumps({"id": question["id"]}),
        "text": json.dumps({"id": question["id"], "reward": "99"}),
        "true": json.dumps({"id": question["id"], "reward": True}),
        "nan": '{"id": %d, "reward": NaN}' % question["id"],
        "inf": '{"id": %d, "reward": 1e999}' % question["id"],
        "null": json.dumps({"id": question["id"], "reward": None}),
        "error": json.dumps({"id": question["id"], "error": "no such \u00e9xample"}),
        "length": json.dumps({"id": question["id"], "reward": len(question["prompt"])}),
        "step": json.dumps({"id": question["id"], "reward": question["step"]}),
        # One more is the folder that is being listed.
        "files": json.dumps({"id": question["id"], "reward": len(os.listdir("/proc/self/fd")) - 1}),
        "pid": json.dumps({"id": question["id"], "reward": os.getpid()}),
    }
    if what == "flood":
        sys.stdout.write("z" * (1 << 22))
        sys.stdout.flush()
        time.sleep(1000)
    elif what in lines:
        write(lines[what])
    else:
        answer(question)
    if what == "twice":
        answer(question)


def main():
    mode, file = (sys.argv[1:] + [""])[:2]
    start(mode, file)
    last_id = 0
    for line in sys.stdin:
        question = json.loads(line)
        act(question, last_id)
        last_id = question["id"]
    if mode == "stay":
        time.sleep(1000)


main()
