#!/bin/sh
# Make an environment with the loaders of other people that our files are for: MediaPipe's and
# Task Library's ImageSegmenter, and a parser of Kotlin. Task Library needs numpy below 2 and Python 3.11 or older.
#
#   sh tests/consumers.sh DIR      then: MOBILESEG_CONSUMERS=DIR/bin/python pytest -m consumers
set -eu

if [ $# -ne 1 ]; then
    echo "usage: sh tests/consumers.sh DIR   (PYTHON names another python3.11)" >&2
    exit 2
fi
"${PYTHON:-python3.11}" -m venv "$1"
"$1/bin/pip" install --quiet absl-py certifi flatbuffers matplotlib "numpy<2" \
    "opencv-python-headless<4.12" pillow "protobuf<4" pybind11 tree-sitter tree-sitter-kotlin
# Without what they ask for besides, which their segmenters never import.
"$1/bin/pip" install --quiet --no-deps "mediapipe==1.2.2" "tflite-support==0.4.4"
echo "MOBILESEG_CONSUMERS=$1/bin/python"
