"""From networks to one ONNX graph that runs anywhere, and the proof that it gives the same numbers.

``session`` and ``latency`` only run graphs and need no torch; ``graph``, ``parity`` and ``fusing`` make them.
Import from the modules: this package stays empty so that running a graph never imports torch.
"""
