"""Finding faces with MTCNN, and cutting a set of pictures out around them."""

from ensemble_fer.align.aligning import align, report_of
from ensemble_fer.align.detection import detect
from ensemble_fer.detector.cascade import Settings

__all__ = ["Settings", "align", "detect", "report_of"]
