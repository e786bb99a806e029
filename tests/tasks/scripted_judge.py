"""A judge for the tests of the pool. The answer tells it how to behave."""

import os
import time


def judge(request):
    answer = request["answer"]
    if answer == "hang":
        while True:
            pass
    if answer == "slow":
        end = time.process_time() + 0.09
        while time.process_time() < end:
            pass
    if answer == "sleep":
        time.sleep(0.3)
    if answer == "die":
        os.abort()
    if answer == "memory":
        b"x" * (4 << 30)
    if answer == "recursion":
        return judge(request)
    if answer == "raise":
        raise KeyError(answer)
    if answer.startswith("eval "):
        return str(eval(answer.removeprefix("eval ")))
    return "correct" if answer in ("right", "slow") else "wrong"
