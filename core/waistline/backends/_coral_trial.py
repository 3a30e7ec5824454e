"""Run by `_coral`, in a process of its own: does this library drive an Edge TPU here?

A library built for another TensorFlow version does not fail, it takes the process down. Stands
alone: run as a script, it imports the runtime and nothing else. Arguments: import package of the
runtime, library, device or "". The model, if any, comes on stdin. Each step is announced on stdout
as a JSON line before it is taken, so that the last line says what the process died of.
"""

import ctypes
import importlib
import json
import sys


def main() -> None:
    package, library, device = sys.argv[1:4]
    model = sys.stdin.buffer.read()
    step = "runtime"
    try:
        _say(step)
        module = importlib.import_module(f"{package}.interpreter")
        _say(step := "library")
        loaded = ctypes.CDLL(library)
        _say(step := "symbol")
        _ = loaded.tflite_plugin_create_delegate, loaded.tflite_plugin_destroy_delegate
        _say(step := "version", version=_version(loaded))
        _say(step := "device")
        delegate = module.load_delegate(library, {"device": device} if device else {})
        if model:
            _say(step := "model")
            made = module.Interpreter(model_content=model, experimental_delegates=[delegate])
            made.allocate_tensors()
            del made
        _say(step := "release")
        del delegate
        _say("done")
    except Exception as error:
        _say(step, error=f"{type(error).__name__}: {error}")


def _version(library: ctypes.CDLL) -> str:
    """What libedgetpu says it is; "" where it does not say."""
    try:
        ask = library.edgetpu_version
    except AttributeError:
        return ""
    ask.restype = ctypes.c_char_p
    return (ask() or b"").decode("utf-8", "replace")[:200]


def _say(step: str, **more: str) -> None:
    print(json.dumps({"step": step, **more}), flush=True)


if __name__ == "__main__":
    main()
