#!/bin/sh
# Make the oldest runtime that our files must load in: TFLite 2.14, which needs numpy below 2 and
# Python 3.11 or older, so it lives in an environment of its own.
#
#   sh tests/floor.sh DIR          then: MOBILESEG_FLOOR=DIR/bin/python pytest -m floor
set -eu

if [ $# -ne 1 ]; then
    echo "usage: sh tests/floor.sh DIR   (PYTHON names another python3.11)" >&2
    exit 2
fi
"${PYTHON:-python3.11}" -m venv "$1"
"$1/bin/pip" install --quiet "tflite-runtime==2.14.0" "numpy<2"
echo "MOBILESEG_FLOOR=$1/bin/python"
