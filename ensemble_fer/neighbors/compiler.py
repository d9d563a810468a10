"""Machine code of one loop, made by numba in a process of its own.

There numba is told to sum 16 numbers at a time: left alone it takes 8, and measuring two faces takes half longer.
It can be told so for a whole process only, and other loops in the user's process are none of our business.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numba import carray, cfunc, types

from ensemble_fer.neighbors import loops
from ensemble_fer.neighbors.compiling import MARK


def machine_code(name: str, kinds: str) -> bytes:
    """An object file with one function, which needs nothing but itself.

    Parameters
    ----------
    name : str
        Of a loop, and of the function.
    kinds : str
        Of its arguments, as ``compiling.Loop`` writes them. In C each array is an address and its sizes.
    """
    entry: Any = _entry(name, kinds)
    module = llvm.parse_assembly(entry.inspect_llvm())
    # Nothing is seen from outside but the entry, so that what only Python needs (errors, counts of owners) goes.
    for inside in [*module.functions, *module.global_variables]:
        if inside.name == entry.native_name:
            inside.name = name
        elif not inside.is_declaration:
            inside.linkage = "internal"
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="pic",
        codemodel="jitdefault",
        jit=True,
    )
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(3))
    builder.getModulePassManager().run(module, builder)
    needed = [f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")]
    if needed:
        raise AssertionError(f"loop {name} needs {', '.join(needed)}, which it will not find: allocate outside of it")
    return machine.emit_object(module)


def _entry(name: str, kinds: str) -> Any:
    """The loop as a C function."""
    parameters: list[tuple[str, Any]] = []

    def of(kind: str) -> str:
        own = f"v{len(parameters)}"
        if kind in ("i", "f"):
            parameters.append((own, {"i": types.int64, "f": types.float64}[kind]))
            return own
        dtype, dimensions = kind.split(":")
        parameters.append((own, types.CPointer(getattr(types, np.dtype(dtype).name))))
        sizes = [f"{own}_{n}" for n in range(int(dimensions))]
        parameters.extend((size, types.int64) for size in sizes)
        return f"carray({own}, ({', '.join(sizes)},))"

    call, kind = "", ""
    for letter in kinds + ",":
        if letter in "(),":
            call, kind = call + (of(kind) if kind else "") + letter, ""
        else:
            kind += letter
    space: dict[str, Any] = {"carray": carray, "loop": getattr(loops, name)}
    exec(f"def entry({', '.join(own for own, _ in parameters)}):\n    loop({call})", space)
    return cfunc(types.void(*(kind for _, kind in parameters)))(space["entry"])


def main() -> None:
    """``NAME KINDS``: writes the object file to the standard output, behind a mark and before nothing else."""
    llvm.set_option("", "--force-vector-width=16")
    sys.stdout.buffer.write(MARK + machine_code(*sys.argv[-2:]))
    sys.stdout.flush()
    os._exit(0)
