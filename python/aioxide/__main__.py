"""The command `python -m aioxide`: runs an unchanged program on aioxide's loop."""

from __future__ import annotations

import builtins
import importlib.util
import io
import os
import runpy
import sys
import types
import zipfile
from importlib.machinery import SourceFileLoader
from typing import NoReturn

import aioxide
from aioxide._aioxide import __profiled__
from aioxide._policy import install_for_program

USAGE = "usage: python -m aioxide [-h | -V | -m module | program.py] [args ...]"


def run_file(path: str) -> None:
    """Run a file as the main program: a new `__main__`, with its folder in front of the path."""
    whole_path = os.path.abspath(path)
    with io.open_code(whole_path) as file:
        source = file.read()
    module = types.ModuleType("__main__")
    module.__file__ = whole_path
    module.__loader__ = SourceFileLoader("__main__", whole_path)
    module.__dict__["__builtins__"] = builtins
    module.__dict__["__cached__"] = None
    sys.modules["__main__"] = module
    sys.path[0] = os.path.dirname(whole_path)
    exec(compile(source, whole_path, "exec"), module.__dict__)


def is_container(path: str) -> bool:
    """Whether a program is a folder or an archive with a `__main__.py`, which `python` runs too."""
    return os.path.isdir(path) or zipfile.is_zipfile(path)


def refuse(message: str) -> NoReturn:
    """What `python` does to a command line that it cannot follow."""
    print(message, file=sys.stderr)
    sys.exit(2)


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
        print("-V, --version: prints which aioxide this is.")
        return
    if arguments[0] in {"-V", "--version"}:
        how = " (profile-guided)" if __profiled__ else ""
        print(f"aioxide {aioxide.__version__}{how}")
        return
    if arguments[0] == "-m":
        if len(arguments) < 2:
            refuse(f"-m needs the name of a module\n{USAGE}")
        sys.path[0] = os.getcwd()
        if not module_exists(arguments[1]):
            sys.exit(f"{sys.executable}: No module named {arguments[1]}")
        install_for_program()
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    program = arguments[0]
    if program.startswith("-"):
        refuse(f"python -m aioxide: unknown option {program}\n{USAGE}")
    if not os.path.exists(program):
        refuse(f"python -m aioxide: can't open file {os.path.abspath(program)!r}: no such file")
    install_for_program()
    sys.argv = arguments
    if is_container(program):
        # It puts the program in the place of this folder.
        del sys.path[0]
        runpy.run_path(program, run_name="__main__")
    else:
        run_file(program)


if __name__ == "__main__":
    main()
