"""Run by the environment of tests/micro.sh: each `.tflite` of the command line on one picture.

Prints a line of JSON per file: a digest of the output. The runtime itself prints its arena.
"""

import hashlib
import json
import sys

import numpy as np
from tflite_micro.python.tflite_micro import runtime

for path in sys.argv[1:]:
    interpreter = runtime.Interpreter.from_file(path)
    shape = interpreter.get_input_details(0)["shape"]
    image = np.random.default_rng(4).integers(0, 256, shape, dtype=np.uint8)
    interpreter.set_input(image, 0)
    interpreter.invoke()
    digest = hashlib.sha256(interpreter.get_output(0).tobytes()).hexdigest()
    interpreter.print_allocations()
    print(json.dumps({"file": path, "output": digest}), flush=True)
