"""Trained weights become model files: ONNX and LiteRT, in full, half and 8-bit precision, with a parity report."""
