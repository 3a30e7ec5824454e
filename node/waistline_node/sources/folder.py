"""Images in a folder, PNG and JPEG, in the order of their names, then those in its subfolders.

The images of a subfolder are labelled with its class (`label_files`). The first image is checked
before the stream starts; a later one that is damaged, or of another size or mode, ends as an error
of its own frame.
"""

from __future__ import annotations

from pathlib import Path

from waistline.frame import SensorFrame
from waistline.task.data.folder import read_image
from waistline.task.folders import list_images
from waistline_node.sources._labels import label_files
from waistline_node.sources.base import IndexedSource, SourceOptions


def open_source(text: str, options: SourceOptions) -> IndexedSource:
    folder = Path(text)
    shape = options.image_shape(str(folder))
    files, remarks = label_files(list_images(folder), options.classes, "images")
    read_image(files[0][0], shape)

    def read_at(position: int, index: int) -> SensorFrame:
        path, label = files[position]
        return SensorFrame(index, (read_image(path, shape),), label, name_of(position))

    def name_of(position: int) -> str:
        return str(files[position][0].relative_to(folder))

    return IndexedSource(len(files), read_at, name_of, options, remarks)
