"""Code that uses a written file, ready to be pasted: Python, and Kotlin for Android.

Each is whole: the Python one is a program that stands beside its file, and is run by the tests.
Source: the samples and references of ai.google.dev/edge/litert/android,
ai.google.dev/edge/mediapipe/solutions/vision/image_segmenter/android and
tensorflow.org/lite/inference_with_metadata/task_library/image_segmenter.
"""

from __future__ import annotations

import json
from string import Template

from mobileseg.export.contract import Contract, Target


def python_snippet(contract: Contract, file: str, target: Target = "raw") -> str:
    """Return a program beside `file`: a photo to a mask of class numbers, both as pictures."""
    kind = "mediapipe" if target == "mediapipe" else contract.form
    height, width = contract.image_size
    return _PYTHON[kind].substitute(
        file=file,
        contract="\n".join(f"# {line}" for line in contract.lines()),
        labels=json.dumps(contract.labels, ensure_ascii=False),
        height=height,
        width=width,
        image=contract.image.name,
        output=contract.output.name,
        enter=_ENTER_PYTHON[contract.image.dtype],
        last="" if contract.meaning == "argmax" else _CHANNELS_LAST_PYTHON,
        mask=_ARGMAX_PYTHON
        if contract.meaning == "argmax"
        else _SCORES_PYTHON.substitute(real=contract.output.real("values.astype(np.float32)")),
    )


def kotlin_snippet(contract: Contract, file: str, target: Target = "raw") -> str:
    """Return a class for Android that takes a Bitmap and gives class numbers."""
    height, width = contract.image_size
    return _KOTLIN[target].substitute(
        file=file,
        contract="\n".join(f"// {line}" for line in contract.lines()),
        height=height,
        width=width,
        classes=len(contract.labels),
        enter=_ENTER_KOTLIN[contract.image.dtype],
        bytes_in=_BYTES[contract.image.dtype],
        bytes_out=_BYTES[contract.output.dtype],
        rows=contract.output.shape[1],
        columns=contract.output.shape[2],
        values="" if contract.meaning == "argmax" else " * CLASSES",
        mask=_ARGMAX_KOTLIN
        if contract.meaning == "argmax"
        else _SCORES_KOTLIN.substitute(get=_GET_KOTLIN[contract.output.dtype]),
    )


_ENTER_PYTHON = {
    "uint8": "pixels",
    "int8": "(pixels.astype(np.int16) - 128).astype(np.int8)",
    "float32": "(pixels.astype(np.float32) - 128) / 128",
}

_CHANNELS_LAST_PYTHON = "values = values.transpose(1, 2, 0)\n"

_ARGMAX_PYTHON = """\
mask = Image.fromarray(values.astype(np.uint8)).resize(photo.size, Image.Resampling.NEAREST)
"""

_SCORES_PYTHON = Template("""\
scores = $real
planes = [
    Image.fromarray(scores[..., number]).resize(photo.size, Image.Resampling.BILINEAR)
    for number in range(len(LABELS))
]
mask = Image.fromarray(np.argmax(planes, axis=0).astype(np.uint8))
""")

_HEAD_PYTHON = """\
\"\"\"One photo to a mask of class numbers with $file.

    pip install PACKAGES
    python $file.py photo.jpg mask.png
\"\"\"

# What stands in the file:
$contract

import sys
from pathlib import Path

"""

_TAIL_PYTHON = """\
mask.save(sys.argv[2])
for number, label in enumerate(LABELS):
    print(f"{label}: {np.mean(np.asarray(mask) == number):.1%}")
"""

_TFLITE_PYTHON = """\
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

LABELS = $labels
interpreter = Interpreter(model_path=str(Path(__file__).with_suffix("")))
segment = interpreter.get_signature_runner("serving_default")

photo = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")
pixels = np.asarray(photo.resize(($width, $height), Image.Resampling.BILINEAR))
image = $enter
values = segment($image=image[None])["$output"][0]
${mask}"""

_ONNX_PYTHON = """\
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

LABELS = $labels
session = onnxruntime.InferenceSession(str(Path(__file__).with_suffix("")))

photo = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")
pixels = np.asarray(photo.resize(($width, $height), Image.Resampling.BILINEAR))
image = $enter
values = session.run(["$output"], {"$image": image.transpose(2, 0, 1)[None]})[0][0]
$last${mask}"""

_MEDIAPIPE_PYTHON = """\
import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.vision import ImageSegmenter, ImageSegmenterOptions
from PIL import Image, ImageOps

LABELS = $labels
options = ImageSegmenterOptions(
    base_options=BaseOptions(model_asset_path=str(Path(__file__).with_suffix(""))),
    output_category_mask=True,
    output_confidence_masks=False,
)
photo = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")
image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.array(photo))
with ImageSegmenter.create_from_options(options) as segmenter:
    result = segmenter.segment(image)
    mask = Image.fromarray(result.category_mask.numpy_view().squeeze().copy())
"""


def _program(body: str, packages: str) -> Template:
    return Template(_HEAD_PYTHON.replace("PACKAGES", packages) + body + _TAIL_PYTHON)


_PYTHON = {
    "tflite": _program(_TFLITE_PYTHON, "ai-edge-litert numpy pillow"),
    "onnx": _program(_ONNX_PYTHON, "onnxruntime numpy pillow"),
    "mediapipe": _program(_MEDIAPIPE_PYTHON, "mediapipe numpy pillow"),
}

_BYTES = {"uint8": "", "int8": "", "float32": " * 4", "int32": " * 4"}
_ENTER_KOTLIN = {
    "uint8": "put(value.toByte())",
    "int8": "put((value - 128).toByte())",
    "float32": "putFloat((value - 128) / 128f)",
}
_GET_KOTLIN = {
    "uint8": "get(pixel * CLASSES + it).toInt() and 0xff",
    "int8": "get(pixel * CLASSES + it).toInt()",
    "float32": "getFloat(4 * (pixel * CLASSES + it))",
}
_ARGMAX_KOTLIN = "output.getInt(4 * pixel)"
# The steps of an integer output rank as the numbers that they stand for.
_SCORES_KOTLIN = Template("(0 until CLASSES).maxBy { output.$get }")

_LITERT_KOTLIN = Template("""\
// implementation("com.google.ai.edge.litert:litert:1.4.2"), and in android { }:
// androidResources { noCompress += "tflite" }; the file goes to src/main/assets/$file

import android.content.Context
import android.graphics.Bitmap
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import org.tensorflow.lite.Interpreter

$contract
class Segmenter(context: Context) : AutoCloseable {
    private val interpreter = Interpreter(
        context.assets.openFd("$file").use { asset ->
            FileInputStream(asset.fileDescriptor).channel.map(
                FileChannel.MapMode.READ_ONLY, asset.startOffset, asset.declaredLength
            )
        },
        Interpreter.Options().setNumThreads(2)
    )
    private val input = buffer(HEIGHT * WIDTH * 3$bytes_in)
    private val output = buffer(ROWS * COLUMNS$values$bytes_out)

    /** Returns the class number of each of ROWS x COLUMNS pixels, row by row. */
    fun segment(photo: Bitmap): IntArray {
        val pixels = IntArray(HEIGHT * WIDTH)
        Bitmap.createScaledBitmap(photo, WIDTH, HEIGHT, true)
            .getPixels(pixels, 0, WIDTH, 0, 0, WIDTH, HEIGHT)
        input.rewind()
        for (pixel in pixels) {
            for (shift in intArrayOf(16, 8, 0)) {
                val value = pixel shr shift and 0xff
                input.$enter
            }
        }
        input.rewind()
        output.rewind()
        interpreter.run(input, output)
        return IntArray(ROWS * COLUMNS) { pixel ->
            $mask
        }
    }

    override fun close() = interpreter.close()

    private fun buffer(bytes: Int): ByteBuffer =
        ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())

    private companion object {
        const val HEIGHT = $height
        const val WIDTH = $width
        const val ROWS = $rows
        const val COLUMNS = $columns
        const val CLASSES = $classes
    }
}
""")

_MEDIAPIPE_KOTLIN = Template("""\
// implementation("com.google.mediapipe:tasks-vision:0.10.21")
// The file goes to src/main/assets/$file

import android.content.Context
import android.graphics.Bitmap
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.framework.image.ByteBufferExtractor
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.core.RunningMode
import com.google.mediapipe.tasks.vision.imagesegmenter.ImageSegmenter
import com.google.mediapipe.tasks.vision.imagesegmenter.ImageSegmenter.ImageSegmenterOptions
import java.nio.ByteBuffer

$contract
class Segmenter(context: Context) : AutoCloseable {
    private val segmenter = ImageSegmenter.createFromOptions(
        context,
        ImageSegmenterOptions.builder()
            .setBaseOptions(BaseOptions.builder().setModelAssetPath("$file").build())
            .setRunningMode(RunningMode.IMAGE)
            .setOutputCategoryMask(true)
            .setOutputConfidenceMasks(false)
            .build()
    )

    /** Returns the class number of each of the photo's pixels, a byte each, row by row. */
    fun segment(photo: Bitmap): ByteBuffer {
        val result = segmenter.segment(BitmapImageBuilder(photo).build())
        return ByteBufferExtractor.extract(result.categoryMask().get())
    }

    override fun close() = segmenter.close()
}
""")

_TASK_KOTLIN = Template("""\
// implementation("org.tensorflow:tensorflow-lite-task-vision:0.4.4"), and in android { }:
// androidResources { noCompress += "tflite" }; the file goes to src/main/assets/$file

import android.content.Context
import android.graphics.Bitmap
import java.nio.ByteBuffer
import org.tensorflow.lite.support.image.TensorImage
import org.tensorflow.lite.task.vision.segmenter.ImageSegmenter
import org.tensorflow.lite.task.vision.segmenter.ImageSegmenter.ImageSegmenterOptions
import org.tensorflow.lite.task.vision.segmenter.OutputType

$contract
class Segmenter(context: Context) : AutoCloseable {
    private val segmenter = ImageSegmenter.createFromFileAndOptions(
        context,
        "$file",
        ImageSegmenterOptions.builder().setOutputType(OutputType.CATEGORY_MASK).build()
    )

    /** Returns the class number of each of $rows x $columns pixels, a byte each, row by row. */
    fun segment(photo: Bitmap): ByteBuffer =
        segmenter.segment(TensorImage.fromBitmap(photo))[0].masks[0].buffer

    override fun close() = segmenter.close()
}
""")

_KOTLIN: dict[Target, Template] = {
    "raw": _LITERT_KOTLIN,
    "task": _TASK_KOTLIN,
    "mediapipe": _MEDIAPIPE_KOTLIN,
}
