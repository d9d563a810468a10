"""Where faces are in pictures: MTCNN's cascade and, for onnxruntime, its three networks. No torch here."""
