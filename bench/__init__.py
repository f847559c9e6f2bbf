"""How fast, measured so that the answer can be believed.

Every figure is a ratio between things that took turns in one process (timing.py), and no speed is
reported of a result that was not first compared with another way to the same number. The suites:

    ops          each fused op against eager PyTorch, `torch.compile` and a copy of as many bytes
    step         training steps against the loop that re-implementations write (baselines.py)
    populations  many models at once against one at a time and against batched weights (batched.py)
    growth       the training step as batch, latents and images grow

`report.run` measures, `report.table` and `report.figure` show; `python cli.py bench` does all
three. `pytest bench` runs the ops under pytest-benchmark, and device.sh runs what needs a GPU.
"""
