"""A conveyor of biscuits, painted with numpy: scene, light and camera, with exact ground truth."""
