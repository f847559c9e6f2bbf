"""The same equation, fast: Triton kernels and their launchers, one file an op; c/ has them in C.

On CUDA tensors a launcher compiles and launches its kernel; on CPU tensors it runs the same
source in Triton's interpreter, slow and exact enough to test against the oracle (launch.py).
All arithmetic is float32 inside, whatever the tensors hold; rows are addressed in 64 bits; sums
are taken in a fixed order without atomics, so equal inputs give equal bits; block sizes and warps
are pure functions of one dimension, so a row's result does not depend on the batch around it.
The launchers trust their arguments: `betavae_core.ops` checks them.
"""
