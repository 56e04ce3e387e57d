"""Runs a command and writes its exit code, wall seconds, peak resident bytes and the machine's other work into a file, as JSON.

Run:  python -I -S bench/measure.py FILE COMMAND [ARGUMENT...]

Linux counts what a process held before it became another program into that program's peak: a command started by a Python that holds a model would
seem to need the model's memory at least. This process holds nothing, so it stands between the two.

`others` are the cores that were busy with something else meanwhile, on average: other processes, or other guests of the host (steal).
"""

import json
import os
import subprocess
import sys
import time


def busy_seconds() -> float:
    """Of all cores since the machine started; without idle and waiting time."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _wait, hard, soft, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + hard + soft + steal) / os.sysconf("SC_CLK_TCK")


busy, start = busy_seconds(), time.perf_counter()
child = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(child.pid, 0)
seconds = time.perf_counter() - start
others = max(0.0, busy_seconds() - busy - usage.ru_utime - usage.ru_stime) / seconds
child.returncode = os.waitstatus_to_exitcode(status)
with open(sys.argv[1], "w") as file:
    json.dump({"code": child.returncode, "wall": seconds, "peak": usage.ru_maxrss * 1024, "others": others}, file)
