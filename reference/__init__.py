"""The oracle: what is true, in NumPy float64, every gradient derived by hand.

Nothing here imports torch, and nothing here is fast on purpose: each function is the formula of
its docstring, so that a reader can check it against the paper and a test can check the
production path against it.
"""
