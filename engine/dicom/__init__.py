"""DICOM in: files and folders -> slices in Hounsfield units, without anybody's identity."""
