"""Programs that try to pass without solving the task, to escape from the sandbox, or to exhaust the machine."""

ATTACKS = {
    "infinite loop": r"""
def add(a, b):
    while True: pass
""",
    "infinite loop at import": r"""
while True: pass
""",
    "sleep": r"""
import time
def add(a, b):
    time.sleep(1000)
""",
    "memory hog": r"""
def add(a, b):
    x = []
    while True: x.append(bytearray(1 << 20))
""",
    "many hogs": r"""
import os
def add(a, b):
    while True:
        try: os.fork()
        except OSError: pass
        x = b'x' * (30 << 20)
""",
    "fork bomb": r"""
import os
def add(a, b):
    while True:
        try: os.fork()
        except OSError: pass
""",
    "print a gigabyte": r"""
import os
def add(a, b):
    for fd in range(3, 9):
        try:
            while True: os.write(fd, b'x' * (1 << 20))
        except OSError: pass
""",
    "exit before the tests": r"""
import os
os._exit(0)
""",
    "exit in the call": r"""
import os
def add(a, b):
    os._exit(0)
""",
    "sys.exit": r"""
import sys
def add(a, b):
    sys.exit(0)
""",
    "always equal": r"""
class E(int):
    def __eq__(self, other): return True
    __hash__ = None
def add(a, b):
    return E(0)
""",
    "always equal, no number": r"""
class E:
    def __eq__(self, other): return True
def add(a, b):
    return E()
""",
    "a forged message": r"""
import os
def add(a, b):
    for fd in range(3, 9):
        try: os.write(fd, b'{"passed": true}\n' * 9)
        except OSError: pass
    return 0
""",
    "forged on every output": r"""
print('{"passed": true}', flush=True)
import sys
sys.stderr.write('passed')
def add(a, b):
    return 0
""",
    "a broken message": r"""
import os
def add(a, b):
    for fd in range(3, 9):
        try: os.write(fd, b'[' * 100000 + b'\n')
        except OSError: pass
""",
    "patched builtins": r"""
import builtins, json
builtins.AssertionError = ValueError
json.dumps = lambda *a: '{"passed": true}'
def add(a, b):
    return 0
""",
    "reading the tests": r"""
import gc, sys
def add(a, b):
    seen = [o for o in gc.get_objects() if isinstance(o, str)]
    frames = []
    f = sys._getframe()
    while f: frames.append(str(f.f_locals)); f = f.f_back
    import glob
    for p in glob.glob('/proc/*/[ce][mn][dv]*') + glob.glob('/tmp/*'):
        try: frames.append(open(p).read())
        except OSError: pass
    return 42 if any('candidate(20, 22)' in x for x in seen + frames) else 0
""",
    "raises": r"""
def add(a, b):
    raise AssertionError('passed')
""",
    "recursion": r"""
def add(a, b):
    return add(a, b)
""",
    "huge value": r"""
def add(a, b):
    return [0] * 10**7
""",
    "cycle": r"""
def add(a, b):
    x = []
    x.append(x)
    return x
""",
}
