"""The command `python -m aioxide`: runs an unchanged program on aioxide's loop."""

from __future__ import annotations

import builtins
import importlib.util
import io
import os
import runpy
import sys
import types
from importlib.machinery import SourceFileLoader

import aioxide
from aioxide._policy import install_for_program

USAGE = "usage: python -m aioxide [-m module | program.py] [args ...]"


def run_file(path: str) -> None:
    """Run a file as the main program: a new `__main__`, with its folder in front of the path."""
    path = os.fspath(path)
    with io.open_code(os.path.abspath(path)) as file:
        source = file.read()
    module = types.ModuleType("__main__")
    module.__file__ = path
    module.__loader__ = SourceFileLoader("__main__", path)
    module.__dict__["__builtins__"] = builtins
    module.__dict__["__cached__"] = None
    sys.modules["__main__"] = module
    sys.path[0] = os.path.dirname(os.path.abspath(path))
    exec(compile(source, path, "exec"), module.__dict__)


def module_exists(name: str) -> bool:
    """Whether a module can be found; the packages around it are imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        if error.name is not None and (name + ".").startswith(error.name + "."):
            return False
        raise


def main() -> None:
    """The command."""
    arguments = sys.argv[1:]
    if not arguments:
        print(USAGE, file=sys.stderr)
        sys.exit(2)
    if arguments[0] in {"-h", "--help"}:
        print(USAGE)
        print("Runs the program with aioxide's event loop in the place of asyncio's.")
        return
    if arguments[0] in {"-V", "--version"}:
        print(f"aioxide {aioxide.__version__}")
        return
    if arguments[0] == "-m":
        if len(arguments) < 2:
            sys.exit(f"-m needs the name of a module\n{USAGE}")
        sys.path[0] = os.getcwd()
        if not module_exists(arguments[1]):
            sys.exit(f"{sys.executable}: No module named {arguments[1]}")
        install_for_program()
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    program = arguments[0]
    if program.startswith("-"):
        sys.exit(f"python -m aioxide: unknown option {program}\n{USAGE}")
    if not os.path.exists(program):
        sys.exit(f"python -m aioxide: can't open file {os.path.abspath(program)!r}: no such file")
    install_for_program()
    sys.argv = arguments
    run_file(program)


if __name__ == "__main__":
    main()
