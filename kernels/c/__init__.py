"""The same equation on a CPU, fast: the kernels in C, with launchers of the same signatures.

They are compiled at their first use by the C compiler of the machine (library.py), as Triton
compiles its own, and where there is none the formulas in plain PyTorch do. All arithmetic is
float32 inside, whatever the tensors hold, but for the products of the layers (bfloat16); a result
below the normal numbers is 0; sums are taken in one order, so that equal inputs give equal bits on
any number of threads. A launcher raises ValueError rather than reach past the end of a tensor.

    reparam_kl, bernoulli_nll, gaussian_nll    the ops, as in Triton
    linear, convolution, convolution_gradient  layers in bfloat16
    update                                     a step of Adam or Adagrad, of weights that are also
                                               kept in bfloat16
"""
