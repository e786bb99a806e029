"""A judge for the tests of the pool: it does what the answer says."""

import os
import time


def judge(request):
    what = request["answer"]
    if what == "hang":
        while True:
            pass
    if what == "slow":
        ends = time.process_time() + 0.09
        while time.process_time() < ends:
            pass
    if what == "sleep":
        time.sleep(0.3)
    if what == "die":
        os.abort()
    if what == "memory":
        b"x" * (4 << 30)
    if what == "recursion":
        return judge(request)
    if what == "raise":
        raise KeyError(what)
    if what.startswith("eval "):
        return str(eval(what.removeprefix("eval ")))
    return "correct" if what in ("right", "slow") else "wrong"
