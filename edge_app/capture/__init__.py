"""How radiographs come in: by DICOM from the X-ray device, from a watched folder or USB stick, picked by hand."""
