"""The CPU's row kernels as they come out for ARM: assembled here, run on no such machine."""

import re
from collections import Counter

import llvmlite.binding as llvm
import pytest
from llvmlite import ir
from numba import types

from goose_viz.cpu import integers, rows
from goose_viz.cpu.building import F32, I8, I16, I64, int64

#: Cores that people have: servers, phones and boards of the first 64 bits, Apple's.
CORES = ("neoverse-n1", "cortex-a72", "apple-m1")

STORED = {"fp32": F32, "bf16": I16, "fp16": I16, "int8": I8, "int4": I8}
KINDS = {"fp32": types.float32, "bf16": types.uint16, "fp16": types.int16}


def module_of(name):
    """A function (row, vector, n, out) of one of the row kernels, as LLVM."""
    whole = name.startswith("int")
    row_type, vector_type = STORED[name].as_pointer(), (I16 if whole else F32).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [row_type, vector_type, I64, I8.as_pointer()])
    module = ir.Module(name)
    function = ir.Function(module, kind, "row")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    row, vector, n, out = function.args
    ahead = [(int64(1024), 3), (int64(16384), 2)]
    if name == "int8":
        sums, _ = rows._bytes(builder, row, [vector], n, ahead)
    elif name == "int4":
        sums, _ = rows._fours(builder, row, [vector], n, ahead)
    else:
        sums, _ = rows._floats(builder, KINDS[name], row, [vector], n, ahead)
    builder.store(sums[0], builder.bitcast(out, sums[0].type.as_pointer()), align=4)
    builder.ret_void()
    return module


def instructions(name, cpu):
    """How often each instruction is there."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    machine = target.create_target_machine(cpu=cpu, opt=3)
    module = llvm.parse_assembly(str(module_of(name)))
    module.triple = "aarch64-unknown-linux-gnu"
    module.data_layout = str(machine.target_data)
    module.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(3))
    passes.getModulePassManager().run(module, passes)
    assembly = machine.emit_assembly(module)
    return Counter(re.findall(r"^\s+([a-z][a-z0-9.]*)\s", assembly, re.MULTILINE))


@pytest.mark.parametrize("cpu", CORES)
@pytest.mark.parametrize("name", STORED)
def test_products_are_vector_instructions(name, cpu, monkeypatch):
    monkeypatch.setattr(integers, "_AVX2", False)
    found = instructions(name, cpu)
    if name == "int8":
        assert found["smull"] + found["smull2"] + found["smlal"] + found["smlal2"] >= 8
    elif name == "int4":
        assert found["smull"] + found["smull2"] + found["smlal"] + found["smlal2"] >= 16
        assert found["fmla"] >= 8
    else:
        assert found["fmla"] >= 4
    assert found["prfm"] >= 2
    assert not found["bl"], "a call in the innermost loop"
    assert not found["fmul"], "a product and its sum are one instruction"
