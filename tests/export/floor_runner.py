"""Run by the floor environment's own Python: each `NAME.tflite` of a folder on `NAME.npy`.

`NAME.npy` holds images as the file takes them; the results are written over it.
"""

import sys
from pathlib import Path

import numpy as np
from tflite_runtime.interpreter import Interpreter

for path in sorted(Path(sys.argv[1]).glob("*.tflite")):
    print(path.name, flush=True)
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    results = []
    for image in np.load(path.with_suffix(".npy")):
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        results.append(interpreter.get_tensor(made["index"]))
    np.save(path.with_suffix(".npy"), np.concatenate(results))
