"""CPython's own asyncio tests, with aioxide's loop in the place of the selector loop.

The suite that an interpreter brings with it, `test.test_asyncio`, is run class by class: each class
twice, in a process of its own, once on the standard loop and once on aioxide. The standard loop's
run is the oracle. A test that passes there and does not pass here is a difference, and one
difference fails the command. A test that does not pass on the standard loop on this machine (no
network, a superuser, ...) is shown, and not held against aioxide.

    run.py            the command line
    interpreters.py   which Pythons there are, and a wheel of aioxide for each
    processes.py      running one class in a process: time limits, what came back
    compare.py        the verdict on two runs of one class
    report.py         what is printed
    excluded.py       the list: tests of the standard library's own insides, a reason for each

These two run inside the interpreter under test:

    child.py          lists the tests of a module, or runs those of a class
    standin.py        puts aioxide's loop wherever asyncio names its own
"""
