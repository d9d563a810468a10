"""Finding faces with MTCNN, and cutting a set of pictures out around them."""

from ensemble_fer.align.aligning import align, report_of
from ensemble_fer.align.cascade import Settings
from ensemble_fer.align.detection import detect

__all__ = ["Settings", "align", "detect", "report_of"]
