"""Imports of megatron-core in the tests' own process are those of a program without CUDA."""

from megatron_mimo.platform import cpu

cpu.keep_compiler_out()
