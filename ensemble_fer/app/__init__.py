"""The ensemble in use: pictures in, expressions out. Runs in onnxruntime; torch is never imported here."""
